/* tinylm.c - a small llama-architecture model in AVX2, with the same bits everywhere.
 *
 * How results stay independent of the batch: weights are packed in panels of 16 outputs, one output
 * a vector lane, and a lane adds its products in the order of the inputs. Keys are stored in blocks
 * of 8 positions for the same reason: one position a lane. So a number is never a sum of partial
 * sums whose count depends on who else is there, and a tile of one row does the same additions as a
 * tile of six. The few sums across lanes have one fixed order.
 *
 * How they stay independent of the machine: IEEE 754 fixes add, multiply, fma, divide and square
 * root; exp, log, sin and cos are computed here from those, since libm picks its code by processor.
 * Approximate instructions (rcpps, rsqrtps) and -ffast-math are out. */
#include "worker/tinylm.h"

#include "common/rng.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <math.h> /* isfinite and INFINITY only */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LANE = 8,      /* floats of a vector */
    PANEL = 16,    /* outputs that are packed together */
    TILE_ROWS = 6, /* rows of the largest tile: 12 sums + 2 weights + 1 input fill the registers */
    LANES_MAX = TINYLM_BATCH_MAX,
    PREFIXES_MAX = 512,
    FIXED_HEADER = 48, /* bytes before the vocabulary */
    DATA_ALIGN = 64,
    CONFIDENT = 20, /* likeliest tokens of a confidence, as in DeepConf (Fu et al. 2025) */

    VOCAB_MAX = 3 + 256, /* one byte a token, and three without text */
    DIM_MAX = 1024,
    LAYERS_MAX = 64,
    HEADS_MAX = 64,
    FF_MAX = 8192,
    CONTEXT_MAX = 4096,
    HIDDEN_MAX = 8192,
    SPECIAL_LEN_MAX = 16,
    FILE_MAX = 256 << 20,
    ROW_BYTES_MAX = 64 << 20,
};

#define TEMPERATURE_MIN 1e-3 /* below, logits divided by it leave the range of a float */

/* A weight matrix [out][in], packed as [panel][in][PANEL]; zeros fill up the last panel. */
struct matrix {
    uint32_t in, panels;
    float *data;
};

struct layer {
    const float *attn_norm, *ffn_norm; /* [dim], in the file's image */
    struct matrix qkv, out;            /* [3 * dim][dim], [dim][dim] */
    struct matrix gate_up, down;       /* [2 * ff][dim], [dim][ff] */
};

struct shape {
    int32_t vocab, dim, layers, heads, ff, context, hidden, vocab_bytes;
    float theta, eps;
};

/* A remembered prefix: its tokens, and their keys and values laid out as in a row of `room`
 * positions. */
struct prefix {
    uint16_t *tokens;
    float *kv;
    uint32_t len, room;
    uint64_t used; /* stamp of the last use */
};

struct tinylm_row {
    struct tinylm_row *next; /* while spare */
    uint32_t len;            /* tokens; keys and values of all but the last are in kv */
    uint16_t *tokens;        /* [context + 1] */
    float *kv;               /* keys, then values; each [layer][head] a plane, see kv_plane */
};

struct tinylm {
    struct shape shape;
    uint32_t head_dim;
    uint32_t room; /* context, rounded up to whole blocks of positions */
    char *image;   /* the file */
    const float *embedding, *final_norm;
    struct layer *layers;
    struct matrix logits;
    float *rope_cos, *rope_sin; /* [context][head_dim] */
    int16_t id_of[256];         /* token of a byte, -1 without */
    int16_t char_of[VOCAB_MAX]; /* byte of a token, -1 without */

    /* working memory of one evaluation, [LANES_MAX][...] */
    float *x, *normed, *qkv, *attended, *gate_up, *hidden, *scores;

    struct tinylm_row *spare;
    struct prefix *prefixes;
    size_t prefixes_len, prefixes_bytes, prefixes_bytes_max;
    uint64_t stamp;
};

/* xalloc for vectors: aligned, so that none of them crosses a cache line. */
static float *floats_new(size_t count)
{
    void *data;
    size_t bytes = (count * sizeof(float) + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
    if (posix_memalign(&data, DATA_ALIGN, bytes) != 0) {
        fprintf(stderr, "drover: out of memory (%zu bytes)\n", bytes);
        abort();
    }
    memset(data, 0, bytes);
    return data;
}

/* --- numbers --- */

/* e^x for float lanes, within 2 ulp; x outside of +-87 is taken as +-87, NaN as -87. Cody-Waite
 * reduction and the polynomial of Cephes expf. */
static inline __m256 exp_lanes(__m256 x)
{
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.0f)), _mm256_set1_ps(87.0f));
    __m256 n =
        _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-0.693359375f), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, _mm256_set1_ps(1.0f)));
    __m256i power = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(power, 23)));
}

/* Sum of the lanes in one fixed order: halves, quarters, pair. */
static inline float sum_lanes(__m256 v)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
}

static inline float max_lanes(__m256 v)
{
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
}

/* Natural logarithm of a positive, normal number, within 1e-15 or so: x = m 2^e, log m = 2
 * atanh((m-1)/(m+1)). */
static double log_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent++;
    }
    double s = (m - 1.0) / (m + 1.0), square = s * s, sum = 0.0;
    for (int k = 21; k >= 1; k -= 2)
        sum = sum * square + 1.0 / k;
    return exponent * 0.69314718055994531 + 2.0 * s * sum;
}

/* e^x for -700 < x <= 0: halved until the series is short, then squared back. */
static double exp_of(double x)
{
    double r = x / 1024.0, sum = 1.0;
    for (int k = 8; k >= 1; k--)
        sum = 1.0 + sum * r / k;
    for (int i = 0; i < 10; i++)
        sum *= sum;
    return sum;
}

/* cos and sin of angle >= 0, below 1e5: quarter turns are taken off, the rest is a Taylor series.
 */
static void cos_sin(double angle, float *cosine, float *sine)
{
    long quarters = (long)(angle * 0.63661977236758134 + 0.5);
    double r = angle - (double)quarters * 1.5707963267948966;
    r -= (double)quarters * 6.123233995736766e-17;
    double square = r * r, c = 1.0, s = 1.0;
    for (int k = 16; k >= 2; k -= 2) {
        c = 1.0 - c * square / (k * (k - 1));
        s = 1.0 - s * square / (k * (k + 1));
    }
    s *= r;
    double turned_cos[] = {c, -s, -c, s}, turned_sin[] = {s, c, -s, -c};
    *cosine = (float)turned_cos[quarters % 4];
    *sine = (float)turned_sin[quarters % 4];
}

/* --- matrix product --- */

/* y[r][panel outputs] = sum over i, in order, of W[output][i] x[r][i]. rows and panels are
 * constants after inlining; they choose how many sums run side by side, never the order within one.
 */
static inline __attribute__((always_inline)) void tile(const struct matrix *m, uint32_t panel, const float *x, float *y,
                                                       const int rows, const int panels)
{
    const size_t in = m->in, stride = (size_t)m->panels * PANEL;
    const float *w = m->data + panel * in * PANEL;
    __m256 sum[TILE_ROWS * 2];
#pragma GCC unroll 12
    for (int i = 0; i < rows * panels * 2; i++)
        sum[i] = _mm256_setzero_ps();
    for (size_t i = 0; i < in; i++) {
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) {
            __m256 low = _mm256_load_ps(w + p * in * PANEL + i * PANEL);
            __m256 high = _mm256_load_ps(w + p * in * PANEL + i * PANEL + LANE);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                __m256 value = _mm256_broadcast_ss(x + r * in + i);
                __m256 *at = sum + (r * panels + p) * 2;
                at[0] = _mm256_fmadd_ps(value, low, at[0]);
                at[1] = _mm256_fmadd_ps(value, high, at[1]);
            }
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < panels * 2; v++)
            _mm256_store_ps(y + r * stride + panel * PANEL + v * LANE, sum[r * panels * 2 + v]);
}

static void tile_rows(const struct matrix *m, uint32_t panel, const float *x, float *y, uint32_t rows)
{
    switch (rows) {
    case 1:
        tile(m, panel, x, y, 1, 1);
        break;
    case 2:
        tile(m, panel, x, y, 2, 1);
        break;
    case 3:
        tile(m, panel, x, y, 3, 1);
        break;
    case 4:
        tile(m, panel, x, y, 4, 1);
        break;
    case 5:
        tile(m, panel, x, y, 5, 1);
        break;
    case 6:
        tile(m, panel, x, y, 6, 1);
        break;
    }
}

/* y[rows][panels * PANEL] = x[rows][in] W^T. Few rows take several panels at once: a lone sum would
 * wait for itself. Many rows stay on one panel while it is in the cache. */
static void product(const struct matrix *m, const float *x, float *y, uint32_t rows)
{
    uint32_t panel = 0;
    if (rows == 1)
        for (; panel + 4 <= m->panels; panel += 4)
            tile(m, panel, x, y, 1, 4);
    else if (rows <= 3)
        for (; panel + 2 <= m->panels; panel += 2)
            rows == 2 ? tile(m, panel, x, y, 2, 2) : tile(m, panel, x, y, 3, 2);
    for (; panel < m->panels; panel++) {
        uint32_t done = 0, tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
        for (; tiles > 0; tiles--) {
            uint32_t take = (rows - done + tiles - 1) / tiles;
            tile_rows(m, panel, x + (size_t)done * m->in, y + (size_t)done * m->panels * PANEL, take);
            done += take;
        }
    }
}

/* Where output `out` of the packed matrix keeps its weight for input `in`. */
static float *matrix_at(const struct matrix *m, uint32_t out, uint32_t in)
{
    return m->data + ((size_t)(out / PANEL) * m->in + in) * PANEL + out % PANEL;
}

static void matrix_init(struct matrix *m, const float *rows, uint32_t out, uint32_t in)
{
    m->in = in;
    m->panels = (out + PANEL - 1) / PANEL;
    m->data = floats_new((size_t)m->panels * PANEL * in);
    for (uint32_t o = 0; o < out; o++)
        for (uint32_t i = 0; i < in; i++)
            *matrix_at(m, o, i) = rows[(size_t)o * in + i];
}

/* --- evaluation --- */

/* One token to evaluate: where its keys and values belong, and its place in the sequence. */
struct lane {
    float *kv;
    uint32_t position;
    uint16_t token;
};

/* A plane holds one head of one layer: keys as [position / 8][head_dim][position % 8], values as
 * [position][head_dim]. A prefix of n positions is therefore the start of each plane. */
static size_t plane_size(const struct tinylm *lm, uint32_t room)
{
    return (size_t)room * lm->head_dim;
}

static float *kv_plane(const struct tinylm *lm, float *kv, bool value, uint32_t layer, uint32_t head)
{
    size_t heads = (size_t)lm->shape.heads;
    size_t plane = ((value ? (size_t)lm->shape.layers : 0) + layer) * heads + head;
    return kv + plane * plane_size(lm, lm->room);
}

static size_t planes_of(const struct shape *shape)
{
    return 2 * (size_t)shape->layers * (size_t)shape->heads;
}

/* out = x / sqrt(mean(x^2) + eps) * weight */
static void rms_norm(const struct tinylm *lm, const float *x, const float *weight, float *out)
{
    const int dim = lm->shape.dim;
    __m256 squares = _mm256_setzero_ps();
    for (int i = 0; i < dim; i += LANE) {
        __m256 v = _mm256_load_ps(x + i);
        squares = _mm256_fmadd_ps(v, v, squares);
    }
    float mean = sum_lanes(squares) / (float)dim + lm->shape.eps;
    __m256 scale = _mm256_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean))));
    for (int i = 0; i < dim; i += LANE) {
        __m256 v = _mm256_mul_ps(_mm256_load_ps(x + i), scale);
        _mm256_store_ps(out + i, _mm256_mul_ps(v, _mm256_loadu_ps(weight + i)));
    }
}

static void norm_lanes(const struct tinylm *lm, const float *weight, uint32_t len)
{
    const size_t dim = (size_t)lm->shape.dim;
    for (uint32_t l = 0; l < len; l++)
        rms_norm(lm, lm->x + l * dim, weight, lm->normed + l * dim);
}

/* x += y, the residual connection. */
static void add_lanes(const struct tinylm *lm, const float *y, uint32_t len)
{
    for (size_t i = 0; i < (size_t)len * (size_t)lm->shape.dim; i += LANE)
        _mm256_store_ps(lm->x + i, _mm256_add_ps(_mm256_load_ps(lm->x + i), _mm256_load_ps(y + i)));
}

/* Turns each pair (a, b) by its angle: (a cos - b sin, b cos + a sin); the table holds -sin, sin.
 */
static void rotate(const struct tinylm *lm, float *head, uint32_t position)
{
    const float *cosine = lm->rope_cos + (size_t)position * lm->head_dim;
    const float *sine = lm->rope_sin + (size_t)position * lm->head_dim;
    for (uint32_t i = 0; i < lm->head_dim; i += LANE) {
        __m256 v = _mm256_load_ps(head + i);
        __m256 swapped = _mm256_permute_ps(v, 0xB1);
        v = _mm256_mul_ps(v, _mm256_load_ps(cosine + i));
        _mm256_store_ps(head + i, _mm256_fmadd_ps(swapped, _mm256_load_ps(sine + i), v));
    }
}

static void store_key_value(const struct tinylm *lm, const struct lane *lane, uint32_t layer, float *qkv)
{
    const uint32_t dim = (uint32_t)lm->shape.dim, width = lm->head_dim;
    for (uint32_t h = 0; h < (uint32_t)lm->shape.heads; h++) {
        float *key = qkv + dim + h * width;
        rotate(lm, qkv + h * width, lane->position);
        rotate(lm, key, lane->position);
        float *to = kv_plane(lm, lane->kv, false, layer, h) + (size_t)(lane->position / LANE) * width * LANE +
                    lane->position % LANE;
        for (uint32_t i = 0; i < width; i++)
            to[(size_t)i * LANE] = key[i];
        memcpy(kv_plane(lm, lane->kv, true, layer, h) + (size_t)lane->position * width, qkv + 2 * dim + h * width,
               width * sizeof(float));
    }
}

/* scores[0..=position] = softmax without its division; returns the divisor. Lanes behind the
 * position hold old numbers: they are masked before the maximum and again before the sum. */
static float softmax_scores(const struct tinylm *lm, const float *query, const float *keys, uint32_t position)
{
    const uint32_t width = lm->head_dim, blocks = position / LANE + 1;
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 tail = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)(position % LANE) + 1), index));
    const float root = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss((float)width)));
    const __m256 scale = _mm256_set1_ps(1.0f / root), never = _mm256_set1_ps(-INFINITY);
    __m256 best = never;
    for (uint32_t b = 0; b < blocks; b++) {
        const float *block = keys + (size_t)b * width * LANE;
        __m256 sum = _mm256_setzero_ps();
        for (uint32_t i = 0; i < width; i++)
            sum = _mm256_fmadd_ps(_mm256_broadcast_ss(query + i), _mm256_load_ps(block + (size_t)i * LANE), sum);
        sum = _mm256_mul_ps(sum, scale);
        if (b == blocks - 1)
            sum = _mm256_blendv_ps(never, sum, tail);
        best = _mm256_max_ps(best, sum);
        _mm256_store_ps(lm->scores + (size_t)b * LANE, sum);
    }
    const __m256 peak = _mm256_set1_ps(max_lanes(best));
    __m256 total = _mm256_setzero_ps();
    for (uint32_t b = 0; b < blocks; b++) {
        float *at = lm->scores + (size_t)b * LANE;
        __m256 weight = exp_lanes(_mm256_sub_ps(_mm256_load_ps(at), peak));
        if (b == blocks - 1)
            weight = _mm256_and_ps(weight, tail);
        total = _mm256_add_ps(total, weight);
        _mm256_store_ps(at, weight);
    }
    return sum_lanes(total);
}

/* out = sum over positions, in order, of scores[t] values[t], divided. Up to four vectors of a head
 * at once. */
static void mix_values(const struct tinylm *lm, const float *values, uint32_t position, float divisor, float *out)
{
    const uint32_t width = lm->head_dim;
    const __m256 share = _mm256_set1_ps(1.0f / divisor);
    uint32_t i = 0;
    for (; i + 4 * LANE <= width; i += 4 * LANE) {
        __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
        for (uint32_t t = 0; t <= position; t++) {
            const float *value = values + (size_t)t * width + i;
            __m256 score = _mm256_broadcast_ss(lm->scores + t);
            a = _mm256_fmadd_ps(score, _mm256_load_ps(value), a);
            b = _mm256_fmadd_ps(score, _mm256_load_ps(value + LANE), b);
            c = _mm256_fmadd_ps(score, _mm256_load_ps(value + 2 * LANE), c);
            d = _mm256_fmadd_ps(score, _mm256_load_ps(value + 3 * LANE), d);
        }
        _mm256_store_ps(out + i, _mm256_mul_ps(a, share));
        _mm256_store_ps(out + i + LANE, _mm256_mul_ps(b, share));
        _mm256_store_ps(out + i + 2 * LANE, _mm256_mul_ps(c, share));
        _mm256_store_ps(out + i + 3 * LANE, _mm256_mul_ps(d, share));
    }
    for (; i < width; i += LANE) {
        __m256 sum = _mm256_setzero_ps();
        for (uint32_t t = 0; t <= position; t++)
            sum = _mm256_fmadd_ps(_mm256_broadcast_ss(lm->scores + t), _mm256_load_ps(values + (size_t)t * width + i),
                                  sum);
        _mm256_store_ps(out + i, _mm256_mul_ps(sum, share));
    }
}

static void attend(const struct tinylm *lm, const struct lane *lane, uint32_t layer, const float *query, float *out)
{
    for (uint32_t h = 0; h < (uint32_t)lm->shape.heads; h++) {
        const float *keys = kv_plane(lm, lane->kv, false, layer, h);
        float divisor = softmax_scores(lm, query + h * lm->head_dim, keys, lane->position);
        mix_values(lm, kv_plane(lm, lane->kv, true, layer, h), lane->position, divisor, out + h * lm->head_dim);
    }
}

/* hidden = silu(gate) * up */
static void activate(const struct tinylm *lm, uint32_t len)
{
    const size_t ff = (size_t)lm->shape.ff;
    const __m256 one = _mm256_set1_ps(1.0f), zero = _mm256_setzero_ps();
    for (uint32_t l = 0; l < len; l++) {
        const float *gate = lm->gate_up + l * 2 * ff, *up = gate + ff;
        for (size_t i = 0; i < ff; i += LANE) {
            __m256 g = _mm256_load_ps(gate + i);
            __m256 below = _mm256_add_ps(one, exp_lanes(_mm256_sub_ps(zero, g)));
            _mm256_store_ps(lm->hidden + l * ff + i, _mm256_mul_ps(_mm256_div_ps(g, below), _mm256_load_ps(up + i)));
        }
    }
}

/* Evaluates the lanes up to the last layer; x holds their hidden states. Lanes of one row may
 * follow each other: all keys of a layer are stored before any lane looks at them, and a lane looks
 * only behind itself. */
static void evaluate(struct tinylm *lm, const struct lane *lanes, uint32_t len)
{
    const size_t dim = (size_t)lm->shape.dim;
    assert(len <= LANES_MAX);
    for (uint32_t l = 0; l < len; l++)
        memcpy(lm->x + l * dim, lm->embedding + lanes[l].token * dim, dim * sizeof(float));
    for (uint32_t i = 0; i < (uint32_t)lm->shape.layers; i++) {
        const struct layer *layer = lm->layers + i;
        norm_lanes(lm, layer->attn_norm, len);
        product(&layer->qkv, lm->normed, lm->qkv, len);
        for (uint32_t l = 0; l < len; l++)
            store_key_value(lm, lanes + l, i, lm->qkv + l * 3 * dim);
        for (uint32_t l = 0; l < len; l++)
            attend(lm, lanes + l, i, lm->qkv + l * 3 * dim, lm->attended + l * dim);
        product(&layer->out, lm->attended, lm->normed, len);
        add_lanes(lm, lm->normed, len);
        norm_lanes(lm, layer->ffn_norm, len);
        product(&layer->gate_up, lm->normed, lm->gate_up, len);
        activate(lm, len);
        product(&layer->down, lm->hidden, lm->normed, len);
        add_lanes(lm, lm->normed, len);
    }
}

/* --- the file --- */

static int refuse(const char *path, int code, struct error *error, const char *what)
{
    return error_set(error, code, "model file %s: %s", path, what);
}

static int read_all(int fd, char *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = read(fd, data + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return ERR_IO;
        done += (size_t)got;
    }
    return 0;
}

static int image_read(const char *path, char **image, size_t *size, struct error *error)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    if (fd < 0)
        return error_set(error, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "model file %s: %s", path,
                         strerror(errno));
    int rc = fstat(fd, &info) == 0 ? 0 : refuse(path, ERR_IO, error, "it cannot be read");
    if (rc == 0 && !S_ISREG(info.st_mode))
        rc = refuse(path, ERR_IO, error, "it is not a regular file");
    if (rc == 0 && info.st_size > FILE_MAX)
        rc = refuse(path, ERR_LIMIT, error, "it is larger than 256 MiB");
    if (rc == 0 && info.st_size < FIXED_HEADER)
        rc = refuse(path, ERR_CORRUPT, error, "it is too short for a TLM1 header");
    if (rc == 0) {
        *size = (size_t)info.st_size;
        *image = xalloc(*size);
        if (read_all(fd, *image, *size) != 0) {
            free(*image);
            *image = NULL;
            rc = refuse(path, ERR_IO, error, "it cannot be read to its end");
        }
    }
    close(fd);
    return rc;
}

/* Each size on its own; whether they fit the file comes later. */
static int shape_check(const struct shape *s, const char *path, struct error *error)
{
    const struct {
        const char *name;
        int32_t value, min, max, multiple;
    } sizes[] = {
        {"vocab", s->vocab, 4, VOCAB_MAX, 1},
        {"dim", s->dim, PANEL, DIM_MAX, PANEL},
        {"layers", s->layers, 1, LAYERS_MAX, 1},
        {"heads", s->heads, 1, HEADS_MAX, 1},
        {"ff", s->ff, PANEL, FF_MAX, PANEL},
        {"context", s->context, 2, CONTEXT_MAX, 1},
        {"value head", s->hidden, 0, HIDDEN_MAX, 1},
        {"vocabulary bytes", s->vocab_bytes, 4, 2 * VOCAB_MAX + 3 * SPECIAL_LEN_MAX, 1},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].value < sizes[i].min || sizes[i].value > sizes[i].max || sizes[i].value % sizes[i].multiple != 0)
            return error_set(error, ERR_LIMIT, "model file %s: %s is %d, but must be %d to %d and a multiple of %d",
                             path, sizes[i].name, sizes[i].value, sizes[i].min, sizes[i].max, sizes[i].multiple);
    if (s->dim % s->heads != 0 || s->dim / s->heads % LANE != 0)
        return refuse(path, ERR_LIMIT, error, "the width of a head must be a multiple of 8");
    if (!(s->theta > 1.0f && s->theta <= 1e9f))
        return refuse(path, ERR_CORRUPT, error, "the rotary base is not in (1, 1e9]");
    if (!(s->eps > 0.0f && s->eps < 1.0f))
        return refuse(path, ERR_CORRUPT, error, "the norm's epsilon is not in (0, 1)");
    if ((uint64_t)s->layers * (uint64_t)s->dim * (uint64_t)s->context * 8 > ROW_BYTES_MAX)
        return refuse(path, ERR_LIMIT, error, "one sequence would need more than 64 MiB");
    return 0;
}

/* Floats behind the header. The checks above keep this far below 2^64. */
static uint64_t shape_floats(const struct shape *s)
{
    uint64_t dim = (uint64_t)s->dim, ff = (uint64_t)s->ff, hidden = (uint64_t)s->hidden;
    uint64_t layer = 2 * dim + 4 * dim * dim + 3 * dim * ff;
    uint64_t head = hidden > 0 ? hidden * dim + 2 * hidden + 1 : 0;
    return 2 * (uint64_t)s->vocab * dim + (uint64_t)s->layers * layer + dim + head;
}

static size_t data_offset(const struct shape *s)
{
    size_t end = FIXED_HEADER + (size_t)s->vocab_bytes;
    return (end + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
}

static int vocabulary_read(struct tinylm *lm, const char *path, struct error *error)
{
    const unsigned char *at = (const unsigned char *)lm->image + FIXED_HEADER;
    const unsigned char *end = at + lm->shape.vocab_bytes;
    memset(lm->id_of, -1, sizeof lm->id_of);
    memset(lm->char_of, -1, sizeof lm->char_of);
    for (int16_t id = 0; id < lm->shape.vocab; id++) {
        if (at == end || *at >= end - at)
            return refuse(path, ERR_CORRUPT, error, "its vocabulary is cut off");
        size_t len = *at++;
        if (id > TINYLM_EOS && len != 1)
            return refuse(path, ERR_LIMIT, error, "a token is not a single byte");
        if (id > TINYLM_EOS && lm->id_of[*at] >= 0)
            return refuse(path, ERR_CORRUPT, error, "a character is in its vocabulary twice");
        if (id > TINYLM_EOS) {
            lm->char_of[id] = *at;
            lm->id_of[*at] = id;
        }
        at += len;
    }
    return at == end ? 0 : refuse(path, ERR_CORRUPT, error, "its vocabulary has a tail");
}

/* The next count floats of the image. */
static const float *take(const float **at, size_t count)
{
    const float *taken = *at;
    *at += count;
    return taken;
}

static void weights_read(struct tinylm *lm, const float *at)
{
    const uint32_t dim = (uint32_t)lm->shape.dim, ff = (uint32_t)lm->shape.ff;
    const uint32_t vocab = (uint32_t)lm->shape.vocab;
    const size_t square = (size_t)dim * dim, wide = (size_t)dim * ff;
    lm->embedding = take(&at, (size_t)vocab * dim);
    lm->layers = xalloc((size_t)lm->shape.layers * sizeof *lm->layers);
    for (struct layer *y = lm->layers; y < lm->layers + lm->shape.layers; y++) {
        y->attn_norm = take(&at, dim);
        matrix_init(&y->qkv, take(&at, 3 * square), 3 * dim, dim);
        matrix_init(&y->out, take(&at, square), dim, dim);
        y->ffn_norm = take(&at, dim);
        matrix_init(&y->gate_up, take(&at, 2 * wide), 2 * ff, dim);
        matrix_init(&y->down, take(&at, wide), dim, ff);
    }
    lm->final_norm = take(&at, dim);
    matrix_init(&lm->logits, take(&at, (size_t)vocab * dim), vocab, dim);
}

/* Angle of pair j at position p: p theta^(-2j / head_dim). */
static void rope_init(struct tinylm *lm)
{
    const uint32_t width = lm->head_dim;
    size_t count = (size_t)lm->shape.context * width;
    lm->rope_cos = floats_new(count);
    lm->rope_sin = floats_new(count);
    double log_theta = log_of((double)lm->shape.theta);
    for (uint32_t j = 0; j < width; j += 2) {
        double speed = exp_of(-(double)j / width * log_theta);
        for (uint32_t p = 0; p < (uint32_t)lm->shape.context; p++) {
            float *c = lm->rope_cos + (size_t)p * width + j;
            float *s = lm->rope_sin + (size_t)p * width + j;
            cos_sin(p * speed, c, s + 1);
            c[1] = c[0];
            s[0] = -s[1];
        }
    }
}

static void memory_init(struct tinylm *lm)
{
    const size_t dim = (size_t)lm->shape.dim, ff = (size_t)lm->shape.ff;
    size_t widest = dim > lm->logits.panels * PANEL ? dim : lm->logits.panels * PANEL;
    lm->x = floats_new(LANES_MAX * dim);
    lm->normed = floats_new(LANES_MAX * dim);
    lm->qkv = floats_new(LANES_MAX * 3 * dim);
    lm->attended = floats_new(LANES_MAX * widest); /* logits go here as well */
    lm->gate_up = floats_new(LANES_MAX * 2 * ff);
    lm->hidden = floats_new(LANES_MAX * ff);
    lm->scores = floats_new(lm->room);
    lm->prefixes = xalloc(PREFIXES_MAX * sizeof *lm->prefixes);
}

static int image_check(struct tinylm *lm, size_t size, const char *path, struct error *error)
{
    if (memcmp(lm->image, "TLM1\0\0\0\0", 8) != 0)
        return refuse(path, ERR_CORRUPT, error, "it does not start with TLM1");
    memcpy(&lm->shape, lm->image + 8, sizeof lm->shape);
    int rc = shape_check(&lm->shape, path, error);
    if (rc != 0)
        return rc;
    size_t offset = data_offset(&lm->shape);
    uint64_t floats = shape_floats(&lm->shape), expected = offset + 4 * floats;
    if (size != expected)
        return error_set(error, ERR_CORRUPT, "model file %s: it has %zu bytes where its header asks for %llu", path,
                         size, (unsigned long long)expected);
    const float *weights = (const float *)(lm->image + offset);
    for (uint64_t i = 0; i < floats; i++)
        if (!isfinite(weights[i]))
            return refuse(path, ERR_CORRUPT, error, "a weight is not a finite number");
    return vocabulary_read(lm, path, error);
}

int tinylm_open(const char *path, size_t prefix_bytes, struct tinylm **out, struct error *error)
{
    _Static_assert(sizeof(struct shape) == FIXED_HEADER - 8, "the header is the struct");
    struct tinylm *lm = xalloc(sizeof *lm);
    size_t size = 0;
    int rc = image_read(path, &lm->image, &size, error);
    if (rc == 0)
        rc = image_check(lm, size, path, error);
    if (rc != 0) {
        tinylm_close(&lm);
        return rc;
    }
    lm->head_dim = (uint32_t)(lm->shape.dim / lm->shape.heads);
    lm->room = ((uint32_t)lm->shape.context + LANE - 1) / LANE * LANE;
    lm->prefixes_bytes_max = prefix_bytes;
    weights_read(lm, (const float *)(lm->image + data_offset(&lm->shape)));
    rope_init(lm);
    memory_init(lm);
    *out = lm;
    return 0;
}

static void prefix_drop(struct tinylm *lm, size_t i);

static void layers_free(struct tinylm *lm)
{
    for (int32_t i = 0; lm->layers != NULL && i < lm->shape.layers; i++) {
        free(lm->layers[i].qkv.data);
        free(lm->layers[i].out.data);
        free(lm->layers[i].gate_up.data);
        free(lm->layers[i].down.data);
    }
    free(lm->layers);
    free(lm->logits.data);
}

void tinylm_close(struct tinylm **out)
{
    struct tinylm *lm = *out;
    if (lm == NULL)
        return;
    *out = NULL;
    while (lm->prefixes_len > 0)
        prefix_drop(lm, 0);
    while (lm->spare != NULL) {
        struct tinylm_row *row = lm->spare;
        lm->spare = row->next;
        free(row->tokens);
        free(row->kv);
        free(row);
    }
    layers_free(lm);
    void *owned[] = {lm->image,    lm->rope_cos, lm->rope_sin, lm->x,      lm->normed,  lm->qkv,
                     lm->attended, lm->gate_up,  lm->hidden,   lm->scores, lm->prefixes};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    free(lm);
}

/* --- text --- */

uint32_t tinylm_context(const struct tinylm *lm)
{
    return (uint32_t)lm->shape.context;
}

int tinylm_encode(const struct tinylm *lm, struct slice text, uint16_t *tokens, struct error *error)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (lm->id_of[c] < 0)
            return error_set(error, ERR_RANGE,
                             c > 32 && c < 127 ? "the model has no token for '%c' (byte %zu)"
                                               : "the model has no token for 0x%02x (byte %zu)",
                             c, i + 1);
        tokens[i] = (uint16_t)lm->id_of[c];
    }
    return 0;
}

int tinylm_char(const struct tinylm *lm, uint16_t token)
{
    return token < lm->shape.vocab ? lm->char_of[token] : -1;
}

/* --- prefixes: keys and values depend on the tokens before them only, so any common start can be
 * copied --- */

static size_t prefix_bytes(const struct tinylm *lm, uint32_t room)
{
    return planes_of(&lm->shape) * plane_size(lm, room) * sizeof(float);
}

static void prefix_drop(struct tinylm *lm, size_t i)
{
    struct prefix *p = lm->prefixes + i;
    lm->prefixes_bytes -= prefix_bytes(lm, p->room);
    free(p->tokens);
    free(p->kv);
    *p = lm->prefixes[--lm->prefixes_len];
}

/* The first len positions of every plane, whole blocks of keys at a time. */
static void kv_copy(const struct tinylm *lm, float *to, uint32_t to_room, const float *from, uint32_t from_room,
                    uint32_t len)
{
    size_t bytes = (len + LANE - 1) / LANE * plane_size(lm, LANE) * sizeof(float);
    for (size_t i = 0; i < planes_of(&lm->shape); i++)
        memcpy(to + i * plane_size(lm, to_room), from + i * plane_size(lm, from_room), bytes);
}

static uint32_t common_len(const struct prefix *p, const uint16_t *tokens, uint32_t len)
{
    uint32_t n = 0, most = p->len < len ? p->len : len;
    while (n < most && p->tokens[n] == tokens[n])
        n++;
    return n;
}

/* Copies the longest remembered start of tokens[0..len) into kv; returns its length. */
static uint32_t prefix_load(struct tinylm *lm, const uint16_t *tokens, uint32_t len, float *kv)
{
    struct prefix *best = NULL;
    uint32_t best_len = 0;
    for (struct prefix *p = lm->prefixes; p < lm->prefixes + lm->prefixes_len; p++) {
        uint32_t common = common_len(p, tokens, len);
        if (common > best_len) {
            best = p;
            best_len = common;
        }
    }
    if (best == NULL)
        return 0;
    best->used = ++lm->stamp;
    kv_copy(lm, kv, lm->room, best->kv, best->room, best_len);
    return best_len;
}

static void prefix_drop_oldest(struct tinylm *lm)
{
    size_t oldest = 0;
    for (size_t i = 1; i < lm->prefixes_len; i++)
        if (lm->prefixes[i].used < lm->prefixes[oldest].used)
            oldest = i;
    prefix_drop(lm, oldest);
}

/* Remembers tokens[0..len). What it extends is forgotten, since it serves that as well. */
static void prefix_save(struct tinylm *lm, const uint16_t *tokens, uint32_t len, const float *kv)
{
    uint32_t room = (len + LANE - 1) / LANE * LANE;
    size_t bytes = prefix_bytes(lm, room);
    if (len == 0 || bytes > lm->prefixes_bytes_max)
        return;
    for (size_t i = 0; i < lm->prefixes_len;) {
        struct prefix *p = lm->prefixes + i;
        uint32_t common = common_len(p, tokens, len);
        if (common == len) {
            p->used = ++lm->stamp;
            return;
        }
        if (common == p->len)
            prefix_drop(lm, i);
        else
            i++;
    }
    while (lm->prefixes_len == PREFIXES_MAX || lm->prefixes_bytes + bytes > lm->prefixes_bytes_max)
        prefix_drop_oldest(lm);
    struct prefix *p = lm->prefixes + lm->prefixes_len++;
    *p = (struct prefix){.len = len, .room = room, .used = ++lm->stamp};
    p->tokens = xalloc(len * sizeof *tokens);
    memcpy(p->tokens, tokens, len * sizeof *tokens);
    p->kv = floats_new(bytes / sizeof(float));
    kv_copy(lm, p->kv, room, kv, lm->room, len);
    lm->prefixes_bytes += bytes;
}

/* --- rows --- */

static struct tinylm_row *row_take(struct tinylm *lm)
{
    struct tinylm_row *row = lm->spare;
    if (row != NULL) {
        lm->spare = row->next;
        return row;
    }
    row = xalloc(sizeof *row);
    row->tokens = xalloc(((size_t)lm->shape.context + 1) * sizeof *row->tokens);
    row->kv = floats_new(planes_of(&lm->shape) * plane_size(lm, lm->room));
    return row;
}

/* Evaluates the row's tokens [from, to), as many at once as working memory allows. */
static void row_fill(struct tinylm *lm, struct tinylm_row *row, uint32_t from, uint32_t to)
{
    struct lane lanes[LANES_MAX];
    while (from < to) {
        uint32_t len = 0;
        for (; len < LANES_MAX && from < to; len++, from++)
            lanes[len] = (struct lane){row->kv, from, row->tokens[from]};
        evaluate(lm, lanes, len);
    }
}

struct tinylm_row *tinylm_row_new(struct tinylm *lm, const uint16_t *tokens, uint32_t len, uint32_t *warm)
{
    assert(len >= 1);
    assert(len <= tinylm_context(lm));
    struct tinylm_row *row = row_take(lm);
    memcpy(row->tokens, tokens, len * sizeof *tokens);
    row->len = len;
    *warm = prefix_load(lm, tokens, len - 1, row->kv);
    if (*warm < len - 1) {
        row_fill(lm, row, *warm, len - 1);
        prefix_save(lm, tokens, len - 1, row->kv);
    }
    return row;
}

void tinylm_row_keep(struct tinylm *lm, const struct tinylm_row *row)
{
    prefix_save(lm, row->tokens, row->len - 1, row->kv);
}

void tinylm_row_free(struct tinylm *lm, struct tinylm_row **row)
{
    if (*row == NULL)
        return;
    (*row)->next = lm->spare;
    lm->spare = *row;
    *row = NULL;
}

uint32_t tinylm_row_len(const struct tinylm_row *row)
{
    return row->len;
}

/* --- drawing --- */

/* weights[i] = e^((logits[i] - peak) * slope); the callers' arrays are whole vectors long. */
static void weigh(const float *logits, float peak, float slope, uint32_t len, float *weights)
{
    for (uint32_t i = 0; i < len; i += LANE) {
        __m256 z = _mm256_sub_ps(_mm256_load_ps(logits + i), _mm256_set1_ps(peak));
        _mm256_store_ps(weights + i, exp_lanes(_mm256_mul_ps(z, _mm256_set1_ps(slope))));
    }
}

static int32_t largest(const float *values, int32_t from, int32_t to)
{
    int32_t best = from;
    for (int32_t i = from + 1; i < to; i++)
        if (values[i] > values[best])
            best = i;
    return best;
}

/* Keeps the likeliest tokens, lower ids first among equals, until they hold that share of the sum
 * (nucleus sampling, Holtzman et al. 2020, section 3.1). */
static void keep_top_p(float *weights, int32_t len, double top_p)
{
    float kept[VOCAB_MAX] = {0};
    double total = 0, taken = 0;
    for (int32_t i = 0; i < len; i++)
        total += (double)weights[i];
    while (taken < top_p * total) {
        int32_t best = largest(weights, 0, len);
        if (weights[best] <= 0)
            break; /* rounding left a little over */
        kept[best] = weights[best];
        taken += (double)weights[best];
        weights[best] = 0;
    }
    memcpy(weights, kept, (size_t)len * sizeof *weights);
}

/* The token that a uniform number picks. The weight of the likeliest token that may be drawn is 1,
 * and that survives both filters. */
static uint16_t pick(const struct tinylm_sampling *how, const float *logits, int32_t vocab, double uniform)
{
    _Alignas(32) float weights[VOCAB_MAX + PANEL];
    int32_t best = largest(logits, TINYLM_EOS, vocab);
    if (how->temperature < TEMPERATURE_MIN)
        return (uint16_t)best;
    weigh(logits, logits[best], (float)(1.0 / how->temperature), (uint32_t)vocab, weights);
    weights[TINYLM_PAD] = weights[TINYLM_BOS] = 0;
    if (how->top_p < 1)
        keep_top_p(weights, vocab, how->top_p);
    double total = 0;
    for (int32_t i = 0; i < vocab; i++) {
        if ((double)weights[i] < how->min_p)
            weights[i] = 0;
        total += (double)weights[i];
    }
    double rest = uniform * total;
    for (int32_t i = 0; i < vocab; i++) {
        rest -= (double)weights[i];
        if (rest < 0)
            return (uint16_t)i;
    }
    return (uint16_t)best;
}

/* Mean of the largest, in falling order: the sum has one order whatever the vocabulary's. */
static double mean_of_largest(const float *logits, int32_t vocab, double peak)
{
    float top[CONFIDENT];
    int32_t len = 0;
    double sum = 0;
    for (int32_t i = 0; i < vocab; i++) {
        if (len == CONFIDENT && logits[i] <= top[len - 1])
            continue;
        int32_t at = len < CONFIDENT ? len++ : len - 1;
        for (; at > 0 && top[at - 1] < logits[i]; at--)
            top[at] = top[at - 1];
        top[at] = logits[i];
    }
    for (int32_t i = 0; i < len; i++)
        sum += (double)top[i] - peak;
    return sum / len;
}

static void draw(const struct tinylm *lm, struct tinylm_draw *d, const float *logits)
{
    _Alignas(32) float weights[VOCAB_MAX + PANEL];
    const int32_t vocab = lm->shape.vocab;
    d->failed = false;
    for (int32_t i = 0; i < vocab; i++)
        d->failed |= !isfinite(logits[i]);
    if (d->failed)
        return;
    const float peak = logits[largest(logits, 0, vocab)];
    weigh(logits, peak, 1.0f, (uint32_t)vocab, weights);
    double total = 0, slope = 0, flat = 0;
    for (int32_t i = 0; i < vocab; i++) {
        total += (double)weights[i];
        flat += (double)logits[i] - (double)peak;
        slope += (double)weights[i] * ((double)logits[i] - (double)peak);
    }
    double log_total = log_of(total);
    d->token = pick(d->sampling, logits, vocab, rng_unit(rng_u64(d->seed, RNG_TOKEN, d->position, 0)));
    d->logprob = (double)logits[d->token] - (double)peak - log_total;
    d->entropy = log_total - slope / total;
    d->confidence = log_total - mean_of_largest(logits, vocab, (double)peak);
    d->certainty = log_total - flat / vocab - log_of(vocab);
    d->row->tokens[d->row->len++] = d->token;
}

void tinylm_step(struct tinylm *lm, struct tinylm_draw *draws, size_t len)
{
    struct lane lanes[LANES_MAX] = {0};
    assert(len <= LANES_MAX);
    for (size_t i = 0; i < len; i++) {
        const struct tinylm_row *row = draws[i].row;
        assert(row->len <= tinylm_context(lm));
        lanes[i] = (struct lane){row->kv, row->len - 1, row->tokens[row->len - 1]};
    }
    evaluate(lm, lanes, (uint32_t)len);
    norm_lanes(lm, lm->final_norm, (uint32_t)len);
    product(&lm->logits, lm->normed, lm->attended, (uint32_t)len);
    for (size_t i = 0; i < len; i++)
        draw(lm, draws + i, lm->attended + i * lm->logits.panels * PANEL);
}
