/* limits.h - every limit of drover in one table; `drover help limits` prints it and doc/LIMITS.md holds it. */
#ifndef DROVER_LIMITS_H
#define DROVER_LIMITS_H

#define LIMIT_TABLE(X)                                                                      \
    X(LIMIT_SWEEP_FILE, 1u << 20, "bytes of a sweep file or cluster.conf")                  \
    X(LIMIT_CONF_DEPTH, 32, "nesting of a YAML file")                                       \
    X(LIMIT_CONF_SCALAR, 65536, "bytes of one YAML scalar")                                 \
    X(LIMIT_NAME, 64, "bytes of a name of a sweep, arm, model, verifier, worker")           \
    X(LIMIT_PROMPTS, 4000000, "prompts of one sweep")                                       \
    X(LIMIT_PROMPT, 1u << 20, "bytes of one prompt record (a line of JSONL)")               \
    X(LIMIT_ATTACHMENT, 16u << 20, "bytes of one attachment of prompts, as base64")         \
    X(LIMIT_ATTACHED, 32u << 20, "bytes of one prompt with its attachments")                \
    X(LIMIT_KEPT, 256u << 20, "bytes of attachments that one worker keeps")                 \
    X(LIMIT_TOKENS_KEPT, 64u << 20, "bytes of token ids that one worker keeps")             \
    X(LIMIT_TEXT, 4u << 20, "bytes of one generated text, unpacked")                        \
    X(LIMIT_ANSWER, 4096, "bytes of an extracted answer")                                   \
    X(LIMIT_DETAIL, 65536, "bytes of the details of a verdict, unpacked")                   \
    X(LIMIT_TROUBLE, 200, "bytes that a broker keeps of what an agent waits for")           \
    X(LIMIT_GROUP, 64, "rollouts of a prompt that one verdict compares")                    \
    X(LIMIT_COMPARED, 32u << 20, "bytes of the texts of a prompt that mbr compares")        \
    X(LIMIT_OFFERS, 256, "models that one worker's servers offer")                          \
    X(LIMIT_MESSAGE, 64u << 20, "bytes of one message")                                     \
    X(LIMIT_CHUNK, 1u << 20, "bytes of one chunk of a submitted file")                      \
    X(LIMIT_SUBMISSION, 1u << 30, "bytes of one submitted prompt file")                     \
    X(LIMIT_SWEEPS, 4096, "sweeps of one state folder")                                     \
    X(LIMIT_ARMS, 1024, "arms of one sweep, grids expanded and one per report_at")          \
    X(LIMIT_MODELS, 64, "models of one sweep")                                              \
    X(LIMIT_VERIFIERS, 64, "verifiers of one sweep")                                        \
    X(LIMIT_LEGS, 16, "models that one arm draws from")                                     \
    X(LIMIT_N, 65536, "rollouts per prompt and arm (n)")                                    \
    X(LIMIT_BINS, 16, "bins of difficulty of one arm")                                      \
    X(LIMIT_TOP, 64, "answers that an arm submits (top)")                                   \
    X(LIMIT_TREE_N, 1024, "rollouts per prompt of a tree arm")                              \
    X(LIMIT_TREE_DEPTH, 256, "steps of one path")                                           \
    X(LIMIT_MAX_TOKENS, 1u << 20, "max_tokens of a model")                                  \
    X(LIMIT_LOOKAHEAD, 1u << 20, "lookahead of order: strict")                              \
    X(LIMIT_SPEC, 65536, "bytes of the JSON spec of a model or verifier")                   \
    X(LIMIT_CREDITS, 4096, "tasks that one agent may hold")                                 \
    X(LIMIT_BATCH, 4096, "items of one message")                                            \
    X(LIMIT_ATTEMPTS, 3, "failed attempts of one task before it counts as failed for good") \
    X(LIMIT_DEATHS, 3, "workers that one task may kill before it is quarantined")

enum limit {
#define X(name, value, help) name = (value),
    LIMIT_TABLE(X)
#undef X
};

#endif
