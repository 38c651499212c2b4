/* agent.h - what a worker and a verifier have in common: one socket thread, many slots, an outbox until ACK.
 *
 * Worker and verifier are this agent around different tables of engines. An engine turns jobs into results; it runs
 * on a compute thread, never touches a socket, and may batch: `advance` gets every job that one thread holds and
 * moves each a little (one token, one poll), marking those that are finished. */
#ifndef DROVER_AGENT_H
#define DROVER_AGENT_H

#include "common/attachment.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/rollout.h"

#include <stdbool.h>
#include <stdint.h>

enum job_state { JOB_RUNNING, JOB_DONE, JOB_FAILED };

/* One leased task while an agent holds it. The agent fills the input, the engine the output. */
struct job {
    /* input: constant while the job runs */
    uint64_t lease;
    struct slice spec;   /* JSON of the model or verifier, as in SPEC messages                       */
    struct slice record; /* the prompt's JSON record: id, prompt or messages, answer, meta            */
    /* generate: path root..parent to continue ("" at the root), behind it the cue if that is inline; verify: the text */
    struct slice text;
    const struct slice *turns; /* generate, cue = CUE_REVISE: earlier attempts, oldest first; `text` is "" then      */
    uint32_t turns_len;
    enum cue cue;          /* generate: what stands before the new text, see common/rollout.h                      */
    struct slice cue_text; /* its text. Inline: the last bytes of `text`; CUE_REVISE: stands behind each of `turns` */
    struct slice answer;   /* verify: the extracted answer of the text                                  */
    const struct attachments *attached; /* what the record names, where the agent is handed it; else NULL        */
    const struct slice *group; /* verify, of a verifier of groups: texts of all rollouts of the prompt, by ordinal */
    uint32_t group_len;
    uint64_t seed;        /* of this rollout, node, or verdict                                         */
    uint32_t prompt;      /* index of the prompt in its set                                            */
    uint32_t ordinal;     /* ordinal of the rollout in its pool, or id of the node in its tree         */
    uint32_t tokens_max;  /* generate at most so many tokens; finish = length when reached             */
    uint32_t timeout_ms;  /* of this attempt, from began_ms                                            */
    uint32_t kill_window; /* generate: tokens of the windows of confidence; 0: as the engine has them */
    double kill_below;    /* end with finish = killed where the mean confidence of a whole window is below; 0: never */
    bool step;            /* stop after the step separator (kept in the text) as well as at the end    */
    bool think;           /* stop at the end of thinking (EXTENT_THINK); never with `step`             */
    bool finished;        /* verify: the text is a finished rollout, not a prefix                      */

    /* output */
    enum job_state state;
    int64_t began_ms;       /* monotonic; when the engine got it. An engine that lets it wait sets it anew   */
    struct buf out;         /* generate: the new text only, without any cue                              */
    struct buf found;       /* generate: the answer, when the engine itself knows it (replay); else empty */
    struct result result;   /* generate                                                                  */
    struct verdict verdict; /* verify                                                                    */
    struct buf detail;      /* verify: what to keep beside the verdict, a JSON object; empty: nothing    */
    struct error error;     /* JOB_FAILED: why, in one sentence                                          */
    bool final;             /* JOB_FAILED: no other attempt can succeed                                  */
    void *engine_data;      /* the engine's, freed by it before it sets DONE or FAILED, or in cancel     */
};

struct engine {
    const char *name, *help;
    uint32_t batch; /* most jobs that one `advance` takes */
    /* spec: JSON object text. Anything that needs files, children or memory is set up here. */
    int (*open)(struct slice spec, void **state, struct error *error);
    /* Moves jobs[0..len) forward; returns in how many ms it wants to be called again (0: at once). May block for
     * tens of ms when all it does is compute. Errors of one job go into that job only. */
    int64_t (*advance)(void *state, struct job **jobs, size_t len, int64_t now_ms);
    void (*cancel)(void *state, struct job *job); /* forget it; may be NULL when engine_data is never used */
    bool (*busy)(void *state); /* without jobs: something of its own is to be sent still; NULL: never */
    int (*fd)(void *state);    /* can be read when `advance` could make progress before its time; NULL: there is none */
    void (*close)(void **state);
};

/* A model that a worker's server offers, told with HELLO: what no server gives is refused when a sweep is submitted. */
struct offer {
    const char *model, *server; /* name; what serves it, as people read it */
    uint32_t context,
        features; /* most tokens of prompt and rollout, 0: unknown; bits 1 << enum feature that it gives */
};

/* How a process is an agent. Worker and verifier differ in these lines only. */
struct agent_options {
    const char *endpoint; /* of the broker */
    const char *join;     /* join file that says where it went when it is lost, NULL: none */
    const char *name;     /* shown in `drover workers` */
    bool verifier;
    const char *kinds;                               /* backends or checks that it serves, comma-separated */
    const struct engine *(*pick)(struct slice spec); /* engine for a spec, NULL: none */
    bool (*reads)(struct slice spec);                /* whether it reads what is attached to prompts */
    bool (*known)(
        struct job *job); /* before an engine gets it: fills the output of one whose outcome is known; may be NULL */
    void (*finish)(struct job *job,
                   struct slice spec); /* after an engine's JOB_DONE, on the compute thread; may be NULL */
    /* Appends the text of a cue as this model says it; of a worker. */
    int (*cue)(struct slice spec, enum cue cue, struct buf *text);
    const char *devices;        /* shown beside its name; NULL: none */
    const struct offer *offers; /* of a worker; at most LIMIT_OFFERS */
    size_t offers_len;
    uint32_t threads;                         /* compute threads */
    uint32_t credits;                         /* tasks that it holds at most, waiting ones included */
    uint32_t (*room)(void);                   /* tasks that it would hold now, below credits; NULL: credits */
    bool (*trouble)(char *text, size_t size); /* fills what its work waits for, "" and false: nothing; may be NULL */
    uint64_t id;                              /* of this incarnation; 0: drawn */
    int parent;                               /* pid to die with, 0: none */
};

/* Serves until it is told to drain (SIGTERM, SIGINT, the broker) or its parent dies. Leases are given back within 2 s,
 * finished results are handed over first. Returns the exit code. */
int agent_run(const struct agent_options *options);

#endif
