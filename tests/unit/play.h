/* play.h - a core, its agents and (if wanted) its journal in one process, for tests of what reads a core.
 *
 * Fill definitions with the put_ functions, submit, then play_tasks: every granted task is answered at
 * once by `answer`. play_replay builds a second core, which keeps nodes, from the facts. */
#ifndef DROVER_TEST_PLAY_H
#define DROVER_TEST_PLAY_H

#include "broker/core/read.h"
#include "broker/journal.h"
#include "common/text.h"

#include <stdlib.h>
#include <string.h>

#define PLAY_WORKER   11u
#define PLAY_VERIFIER 22u

struct play {
    struct core *core;
    struct update update;
    struct buf definitions, facts, texts;
    struct journal *journal;
    int64_t now_ms, unix_s;
    uint32_t answered, left; /* tasks answered; tasks that may still be */
    /* Fills the result or verdict of event, and the text or details behind it; returns false to fail the task. */
    bool (*answer)(const struct send *task, struct event *event, struct buf *text);
};

static inline void play_clear(struct play *play)
{
    core_free(&play->core);
    update_clear(&play->update);
    buf_clear(&play->definitions);
    buf_clear(&play->facts);
    buf_clear(&play->texts);
}

/* What the shell does at the end of a batch. */
static inline void play_commit(struct play *play)
{
    struct error error;
    buf_put(&play->facts, play->update.facts.data, play->update.facts.len);
    if (play->journal != NULL && play->update.facts.len > 0 &&
        journal_append(play->journal, buf_slice(&play->update.facts), buf_slice(&play->texts), &error) != 0)
        abort();
    buf_reset(&play->texts);
    play->update.facts.len = 0;
}

/* Starts the core; journal may be NULL. */
static inline struct play play_new(struct journal *journal)
{
    struct play play = {.core = core_new(&(struct core_options){.lease_ms = 1000}),
                        .journal = journal,
                        .now_ms = 1000,
                        .left = UINT32_MAX};
    core_start(play.core, play.now_ms, true, &play.update);
    play_commit(&play);
    return play;
}

static inline struct ref play_text(struct play *play, struct slice bytes)
{
    struct ref ref = {play->journal == NULL ? 0 : journal_next(play->journal), (uint32_t)play->texts.len,
                      (uint32_t)bytes.len};
    buf_put(&play->texts, bytes.data, bytes.len);
    return ref;
}

static inline void play_event(struct play *play, struct event event)
{
    event.now_ms = play->now_ms;
    event.unix_s = play->unix_s;
    core_step(play->core, &event, &play->update);
}

static inline void play_hello(struct play *play, uint64_t id, const char *name, bool verifier, const char *kind,
                              uint32_t credits)
{
    int bit = core_kind(play->core, verifier, slice_of(kind));
    play_event(play, (struct event){.type = EVENT_HELLO,
                                    .agent = id,
                                    .hello = {.name = slice_of(name),
                                              .verifier = verifier,
                                              .kinds = 1ull << bit,
                                              .credits = credits,
                                              .next_ms = 1000}});
}

static inline void play_submit(struct play *play)
{
    play_event(play, (struct event){.type = EVENT_SUBMIT, .submit.definitions = buf_slice(&play->definitions)});
    play_commit(play);
    buf_reset(&play->definitions);
}

static inline void play_answer(struct play *play, const struct send *task)
{
    struct event event = {.agent = task->agent, .lease = task->lease};
    struct buf text = {0};
    event.type = task->key.kind == TASK_VERIFY ? EVENT_VERDICT : EVENT_RESULT;
    if (!play->answer(task, &event, &text)) {
        event.type = EVENT_FAIL;
        event.fail.tokens_out = 1;
    } else if (event.type == EVENT_RESULT) {
        event.result.ref = play_text(play, buf_slice(&text));
    } else if (text.len > 0) {
        event.verdict.ref = play_text(play, buf_slice(&text));
    }
    play_event(play, event);
    buf_clear(&text);
}

/* Dispatches and answers until nothing moves or `left` tasks are used up; true when something was sent. */
static inline bool play_tasks(struct play *play)
{
    bool any = false;
    for (bool moved = true; moved;) {
        moved = false;
        update_reset(&play->update);
        play_event(play, (struct event){.type = EVENT_DISPATCH});
        play_commit(play);
        size_t len = play->update.sends_len;
        struct send *sends = xalloc(len * sizeof *sends + 1);
        if (len > 0)
            memcpy(sends, play->update.sends, len * sizeof *sends);
        update_reset(&play->update);
        for (size_t i = 0; i < len; i++) {
            if (sends[i].type != SEND_TASK || play->left == 0)
                continue;
            play_answer(play, &sends[i]);
            play->answered++;
            play->left--;
            moved = any = true;
        }
        play_commit(play);
        free(sends);
    }
    return any;
}

static inline struct core *play_replay(const struct play *play)
{
    struct core *core = core_new(&(struct core_options){.lease_ms = 1000, .keep_nodes = true});
    struct fact fact;
    for (size_t at = 0; at < play->facts.len;)
        if (fact_get(buf_slice(&play->facts), &at, &fact) != 0 || core_apply(core, &fact) != 0)
            abort();
    core_settle(core);
    return core;
}

/* -- definitions ---------------------------------------------------------------------------------------- */

/* Prompts 0.. with groups "g0", "g1", ... in turn; records are JSON lines with the ids p0, p1, ... */
static inline void put_prompts(struct play *play, uint32_t len, uint32_t groups)
{
    fact_put(&play->definitions, &(struct fact){.type = FACT_set, .set = {.digest = 7, .len = len}});
    for (uint32_t p = 0; p < len; p++) {
        struct buf record = {0}, group = {0};
        buf_printf(&record, "{\"id\": \"p%u\", \"prompt\": \"%u\"}", p, p);
        if (groups > 0)
            buf_printf(&group, "g%u", p % groups);
        struct ref ref = play_text(play, buf_slice(&record));
        fact_put(&play->definitions, &(struct fact){.type = FACT_prompt,
                                                    .prompt = {.ref_commit = ref.commit,
                                                               .ref_offset = ref.offset,
                                                               .ref_len = ref.len,
                                                               .bytes = 10,
                                                               .group = buf_slice(&group)}});
        buf_clear(&record);
        buf_clear(&group);
    }
}

/* As play_hello, of a worker whose servers offer these. */
static inline void play_hello_offering(struct play *play, uint64_t id, const char *kind, const char *devices,
                                       const struct server_offer *offers, size_t len)
{
    int bit = core_kind(play->core, false, slice_of(kind));
    play_event(play, (struct event){.type = EVENT_HELLO,
                                    .agent = id,
                                    .hello = {.name = slice_of("w"),
                                              .kinds = 1ull << bit,
                                              .credits = 4,
                                              .next_ms = 1000,
                                              .devices = slice_of(devices),
                                              .offers = offers,
                                              .offers_len = len}});
}

/* Model "m" on backend "sim", verifiers 0 "truth" and 1 "judge" of kind "check", and their pool. */
static inline void put_model_on(struct play *play, const char *model, const char *backend, const char *offer)
{
    struct buf *to = &play->definitions;
    fact_put(to, &(struct fact){.type = FACT_model,
                                .model = {.fingerprint = 11,
                                          .name = slice_of(model),
                                          .backend = slice_of(backend),
                                          .max_tokens = 100,
                                          .template_tokens = 2,
                                          .timeout_ms = 1000,
                                          .offer = slice_of(offer)}});
    for (uint32_t v = 0; v < 2; v++)
        fact_put(to, &(struct fact){.type = FACT_verifier,
                                    .verifier = {.id = v,
                                                 .fingerprint = 21 + v,
                                                 .name = slice_of(v == 0 ? "truth" : "judge"),
                                                 .kind = slice_of("check"),
                                                 .timeout_ms = 500}});
    fact_put(to, &(struct fact){.type = FACT_pool, .pool = {.fingerprint = 31, .seed = 5}});
}

static inline void put_model_offered(struct play *play, const char *model, const char *offer)
{
    put_model_on(play, model, "sim", offer);
}

static inline void put_model(struct play *play, const char *model)
{
    put_model_on(play, model, "sim", "");
}

static inline void put_sweep(struct play *play, const char *name, uint32_t truth, uint64_t rollouts)
{
    fact_put(&play->definitions,
             &(struct fact){.type = FACT_sweep,
                            .sweep = {.name = slice_of(name), .seed = 5, .truth = truth, .rollouts = rollouts}});
}

struct arm_text {
    const char *name, *strategy, *allocate, *stop, *select;
    uint32_t n, verifier;
    const uint32_t *report_at;
    size_t report_at_len;
};

static inline void put_arm(struct play *play, uint32_t id, struct arm_text arm)
{
    double options[4][POLICY_OPTIONS_MAX] = {{0}};
    const struct strategy *strategy = strategy_find(arm.strategy);
    for (int i = 0; strategy->options[i].name != NULL; i++)
        options[0][i] = strategy->options[i].fallback;
    for (int i = 0; allocator_find(arm.allocate)->options[i].name != NULL; i++)
        options[1][i] = allocator_find(arm.allocate)->options[i].fallback;
    for (int i = 0; stopper_find(arm.stop)->options[i].name != NULL; i++)
        options[2][i] = stopper_find(arm.stop)->options[i].fallback;
    fact_put(&play->definitions,
             &(struct fact){.type = FACT_arm,
                            .arm = {.id = id,
                                    .name = slice_of(arm.name),
                                    .strategy = slice_of(arm.strategy),
                                    .allocator = slice_of(arm.allocate),
                                    .stopper = slice_of(arm.stop),
                                    .selector = slice_of(arm.select),
                                    .n = arm.n,
                                    .verifier = arm.verifier,
                                    .lookahead = 5,
                                    .options = {(const char *)options, sizeof options},
                                    .report_at = {(const char *)arm.report_at, arm.report_at_len * sizeof(uint32_t)}}});
}

#endif
