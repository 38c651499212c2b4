/* digest.c - hash of what was decided and delivered; never of times, attempts, agents, overrun. */
#include "broker/core/core_int.h"
#include "common/hash.h"

#include <string.h>

static void add(struct buf *to, uint64_t word)
{
    buf_put(to, &word, sizeof word);
}

/* How much of its path a node had to read again depends on what was warm where it ran: tokens_in is of rollouts only. */
static void add_row(struct buf *to, const struct row *row, bool rollout)
{
    const float mean = row_lp_mean(row);
    uint32_t lp;
    memcpy(&lp, &mean, sizeof lp);
    add(to, row->class);
    add(to, (uint64_t)(rollout ? row->tokens_in : 0) << 32 | row->tokens_out);
    add(to, (uint64_t)row->finish << 40 | (uint64_t)row->state << 32 | lp);
}

static void add_score(struct buf *to, const struct score *score)
{
    uint64_t bits;
    memcpy(&bits, &score->score, sizeof bits);
    add(to, score->state == SCORE_DONE ? bits ^ score->outcome : 1);
}

/* A verdict on a rollout that was ended early is the truth's alone: if another sweep has one, that is chance. */
static void add_scores(const struct core *core, const struct arm *arm, struct key *key, struct buf *to)
{
    static const struct score none = {0};
    uint32_t truth = core->sweeps[arm->sweep].truth;
    key->kind = TASK_VERIFY;
    key->verifier = arm->verifier;
    if (arm->verifier != NO_ID)
        add_score(to, row_judged(core, arm, key_row(core, key)) ? key_score(core, key) : &none);
    key->verifier = truth;
    if (truth != NO_ID)
        add_score(to, key_score(core, key));
}

static void add_rollouts(const struct core *core, const struct arm *arm, uint32_t p, struct buf *to)
{
    for (uint32_t k = 0; k < arm->cells[p].delivered; k++) {
        struct key key = arm_key(arm, p, k);
        add_row(to, key_row(core, &key), true);
        add_scores(core, arm, &key, to);
    }
}

static void add_trees(const struct arm *arm, const struct cell *cell, struct buf *to)
{
    for (uint32_t t = 0; cell->trees != NULL && t < arm->trees; t++) {
        const struct tree *tree = &cell->trees[t];
        for (uint32_t n = 0; n < tree->nodes_len; n++) {
            add(to, tree->views[n].parent);
            add_row(to, &tree->nodes[n], false);
            add_score(to, &tree->scores[2 * n]);
        }
        for (uint32_t i = 0; i < tree->finals_len; i++)
            add(to, tree->finals[i]);
    }
}

uint64_t core_digest(const struct core *core, uint32_t id)
{
    struct buf bytes = {0};
    const struct sweep *sweep = &core->sweeps[id];
    for (uint32_t i = 0; i < sweep->arms_len; i++) {
        const struct arm *arm = &core->arms[sweep->arms[i]];
        for (uint32_t p = 0; p < arm->prompts; p++) {
            const struct cell *cell = &arm->cells[p];
            add(&bytes, (uint64_t)cell->decided << 32 | cell->stop);
            add(&bytes, cell->winner);
            if (arm->trees > 0)
                add_trees(arm, cell, &bytes);
            else
                add_rollouts(core, arm, p, &bytes);
        }
    }
    uint64_t digest = hash_bytes(bytes.data, bytes.len);
    buf_clear(&bytes);
    return digest;
}
