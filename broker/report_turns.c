/* report_turns.c - arms whose texts are continued: what each turn, or each part of a chain, gave and took. */
#include "broker/report_parts.h"

#include "common/limits.h"

#include <stdio.h>
#include <string.h>

static const struct report_column turn_columns[] = {
    {"arm", "arm", CELL_TEXT},        {"n", "N", CELL_COUNT},           {"part", "part", CELL_TEXT},
    {"nodes", "nodes", CELL_COUNT},   {"tokens", "tokens", CELL_COUNT}, {"read_again", "read again", CELL_COUNT},
    {"judged", "judged", CELL_COUNT}, {"right", "right", CELL_SHARE},   {0},
};

struct part {
    uint64_t nodes, tokens, read_again, judged, right;
};

/* Attempts are parts by their turn, which is not their depth where a turn revises an attempt of some turns ago; nodes of a
 * chain of thought are by their cue. */
static uint32_t part_of(const struct arm_info *arm, const struct key *key, const struct rollout_info *node)
{
    return arm->strategy->width != NULL ? key->item / arm->strategy->width(arm->options[0]) : (uint32_t)node->cue;
}

static void part_name(const struct arm_info *arm, uint32_t part, char name[32])
{
    static const char *const chain[] = {"think", "wait", "answer", "final"};
    if (arm->strategy->width != NULL)
        snprintf(name, 32, "turn %u", part + 1);
    else
        snprintf(name, 32, "%s", part < sizeof chain / sizeof *chain ? chain[part] : "other");
}

static void part_add(const struct core *core, const struct arm_info *arm, const struct key *key, struct part *parts)
{
    struct rollout_info node;
    struct verdict verdict;
    if (!core_rollout(core, key, &node) || node.state == ROLLOUT_OPEN || part_of(arm, key, &node) >= LIMIT_TREE_DEPTH)
        return;
    struct part *part = &parts[part_of(arm, key, &node)];
    part->nodes++;
    part->tokens += node.tokens_out;
    part->read_again += node.parent == NO_ORDINAL ? 0 : node.tokens_in; /* which nobody is charged for */
    if (!core_verdict(core, key, arm->truth, &verdict) || !outcome_decides(verdict.outcome))
        return;
    part->judged++;
    part->right += verdict.outcome == OUTCOME_PASS;
}

static void turns_of(const struct core *core, const struct arm_info *arm, struct report_table *table)
{
    struct part parts[LIMIT_TREE_DEPTH] = {{0}};
    struct key key = {TASK_GENERATE, arm->id, 0, 0, 0, NO_ID};
    for (key.prompt = 0; key.prompt < arm->prompts; key.prompt++)
        for (key.tree = 0; key.tree < arm->trees; key.tree++)
            for (key.item = 0; key.item < core_tree_nodes(core, arm->id, key.prompt, key.tree); key.item++)
                part_add(core, arm, &key, parts);
    for (uint32_t i = 0; i < LIMIT_TREE_DEPTH; i++) {
        char name[32];
        if (parts[i].nodes == 0)
            continue;
        part_name(arm, i, name);
        report_table_text(table, arm->name);
        report_table_number(table, arm->n);
        report_table_text(table, name);
        report_table_number(table, (double)parts[i].nodes);
        report_table_number(table, (double)parts[i].tokens);
        report_table_number(table, (double)parts[i].read_again);
        report_table_number(table, (double)parts[i].judged);
        report_table_number(table, share(parts[i].right, parts[i].judged));
    }
}

void report_turns_fill(const struct core *core, struct report *report)
{
    struct report_table *table =
        report_table_add(report, "turns", "what each turn, or part of a chain, gave and read again", turn_columns);
    for (uint32_t i = 0; i < report->sweep.arms; i++) {
        struct arm_info arm = core_arm(core, core_sweep_arm(core, report->sweep.id, i));
        if ((arm.strategy->needs & (NEED_TURNS | NEED_THINKS)) != 0)
            turns_of(core, &arm, table);
    }
}
