/* report_plot.c - accuracy against N as letters on a grid of 40 to 80 columns; N on a logarithmic axis. */
#include "broker/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    HEIGHT = 16,
    PAGE_MIN = 40,
    PAGE = 80,
    AXIS = 8,                    /* columns left of the grid */
    SPARE = 2,                   /* right of it, for the last number below the axis */
    WIDTH = PAGE - AXIS - SPARE, /* of the grid at most */
};

struct plot {
    char grid[HEIGHT][WIDTH]; /* letters; 0: nothing, '.': on the way between two points, '*': several arms */
    int width;                /* of the grid */
    double n_low, n_high;     /* log2 */
    double low, high;
};

char report_letter(uint32_t curve)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return curve < sizeof letters - 1 ? letters[curve] : '#';
}

static void widen(struct plot *plot, const struct report_point *point)
{
    double n = log2(point->n);
    plot->n_low = fmin(plot->n_low, n);
    plot->n_high = fmax(plot->n_high, n);
    plot->low = fmin(plot->low, point->accuracy);
    plot->high = fmax(plot->high, point->accuracy);
}

/* Whole tenths, at least one tenth apart, inside [0, 1]. */
static void round_range(struct plot *plot)
{
    plot->low = floor(plot->low * 10 + 1e-9) / 10;
    plot->high = ceil(plot->high * 10 - 1e-9) / 10;
    if (plot->high - plot->low > 0.05)
        return;
    if (plot->high > 0.95)
        plot->low -= 0.1;
    else
        plot->high += 0.1;
}

static int column_of(const struct plot *plot, double n)
{
    double range = plot->n_high - plot->n_low;
    return range > 0 ? (int)lround((n - plot->n_low) / range * (plot->width - 1)) : plot->width / 2;
}

static int row_of(const struct plot *plot, double accuracy)
{
    return (int)lround((plot->high - accuracy) / (plot->high - plot->low) * (HEIGHT - 1));
}

static void draw_line(struct plot *plot, const struct report_point *a, const struct report_point *b)
{
    int from = column_of(plot, log2(a->n)), to = column_of(plot, log2(b->n));
    for (int x = from + 1; x < to; x++) {
        double share = (double)(x - from) / (to - from);
        char *cell = &plot->grid[row_of(plot, a->accuracy + share * (b->accuracy - a->accuracy))][x];
        *cell = *cell == 0 ? '.' : *cell;
    }
}

static void draw_letter(struct plot *plot, const struct report_point *point, char letter)
{
    char *cell = &plot->grid[row_of(plot, point->accuracy)][column_of(plot, log2(point->n))];
    *cell = *cell == 0 || *cell == '.' || *cell == letter ? letter : '*';
}

static void draw_curve(struct plot *plot, const struct report_curve *curve, char letter, bool lines)
{
    const struct report_point *last = NULL;
    for (uint32_t i = 0; i < curve->points_len; i++) {
        const struct report_point *point = &curve->points[i];
        if (isnan(point->accuracy))
            continue;
        if (lines && last != NULL)
            draw_line(plot, last, point);
        if (!lines)
            draw_letter(plot, point, letter);
        last = point;
    }
}

static void print_row(const struct plot *plot, int row, bool utf8, struct buf *out)
{
    double accuracy = plot->high - (plot->high - plot->low) * row / (HEIGHT - 1);
    if (row % 5 == 0)
        buf_printf(out, "  %4.2f %s", fabs(accuracy), utf8 ? "┤" : "|");
    else
        buf_printf(out, "       %s", utf8 ? "│" : "|");
    int end = plot->width;
    while (end > 0 && plot->grid[row][end - 1] == 0)
        end--;
    for (int x = 0; x < end; x++) {
        char cell = plot->grid[row][x];
        if (cell == '.' && utf8)
            buf_puts(out, "·");
        else
            buf_put(out, cell == 0 ? " " : &cell, 1);
    }
    buf_puts(out, "\n");
}

/* Numbers below the axis, as long as there is room. */
static void print_ticks(const struct plot *plot, const struct report *report, const struct report_group *group,
                        struct buf *out)
{
    char line[WIDTH + SPARE + 1]; /* one more to look at behind the last number */
    const int ticks = plot->width + SPARE;
    memset(line, ' ', sizeof line);
    for (uint32_t c = 0; c < report->curves_len; c++) {
        for (uint32_t i = 0; i < group->curves[c].points_len; i++) {
            char text[12];
            uint32_t n = group->curves[c].points[i].n;
            if (isnan(group->curves[c].points[i].accuracy))
                continue;
            int len = snprintf(text, sizeof text, "%u", n), at = column_of(plot, log2(n));
            if (at > ticks - len) /* the last one ends with the line */
                at = ticks - len;
            bool free_place = at >= 0;
            for (int x = at - 1; free_place && x < at + len + 1; x++)
                free_place = x < 0 || line[x] == ' ';
            if (free_place)
                memcpy(line + at, text, (size_t)len);
        }
    }
    int end = ticks;
    while (end > 0 && line[end - 1] == ' ')
        end--;
    buf_printf(out, "        %.*s\n", end, line);
}

static void print_axis(const struct plot *plot, bool utf8, struct buf *out)
{
    buf_puts(out, utf8 ? "       └" : "       +");
    for (int x = 0; x < plot->width; x++)
        buf_puts(out, utf8 ? "─" : "-");
    buf_puts(out, "\n");
}

static int width_of(uint32_t columns)
{
    uint32_t page = columns == 0 || columns > PAGE ? PAGE : columns < PAGE_MIN ? PAGE_MIN : columns;
    return (int)page - AXIS - SPARE;
}

void report_plot(const struct report *report, const struct report_group *group, struct report_page page,
                 struct buf *out)
{
    struct plot plot = {.width = width_of(page.columns), .n_low = INFINITY, .n_high = -INFINITY, .low = 1, .high = 0};
    for (uint32_t c = 0; c < report->curves_len; c++)
        for (uint32_t i = 0; i < group->curves[c].points_len; i++)
            if (!isnan(group->curves[c].points[i].accuracy))
                widen(&plot, &group->curves[c].points[i]);
    if (plot.n_low > plot.n_high)
        return;
    round_range(&plot);
    for (uint32_t c = 0; c < 2 * report->curves_len; c++) { /* letters go over lines */
        uint32_t curve = c % report->curves_len;
        draw_curve(&plot, &group->curves[curve], report_letter(curve), c < report->curves_len);
    }
    buf_puts(out, "  accuracy\n");
    for (int row = 0; row < HEIGHT; row++)
        print_row(&plot, row, page.utf8, out);
    print_axis(&plot, page.utf8, out);
    print_ticks(&plot, report, group, out);
    buf_printf(out, "        N: rollouts per prompt%s(logarithmic); * several arms\n",
               plot.width < 50 ? "\n        " : " ");
}
