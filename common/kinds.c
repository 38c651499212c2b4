/* kinds.c - the backends and verifiers that a sweep file may name, with their options.
 *
 * Only names and rows: the code that runs them is in worker/ and verifier/, so a client can check a
 * sweep file without either. `choices` of a row says, for OPTION_TEXT and OPTION_LIST, the default:
 * NULL when required, "" when there is none. For OPTION_MAP it lists the valid keys: "" when any
 * key will do, NULL when the map is also required. */
#include "common/options.h"
#include "common/rollout.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const struct option_row replay_options[] = {
    {"format", OPTION_CHOICE, 0, 0, 0, "auto|csv|jsonl",
     "format of the recorded rollouts; auto goes by the end of the file's name"},
    {"columns", OPTION_MAP, 0, 0, 0,
     "prompt|ordinal|text|answer|tokens_in|tokens_out|latency_ms|latency_s|finish"
#define X(name, value, text, help) "|" text
     FEATURE_TABLE(X)
#undef X
         ,
     "which column or JSON key of the recording holds what, where it has another name"},
    {"where", OPTION_MAP, 0, 0, 0, "", "only rows that hold these values in these columns"},
    {0},
};

static const struct option_row synthetic_options[] = {
    {"success", OPTION_REAL, 0, 1, 0.5, NULL, "mean probability that a rollout is right"},
    {"success_spread", OPTION_REAL, 0, 1, 0, NULL,
     "how far that probability differs between prompts: 0 not at all, 1 as far as it can"},
    {"answers", OPTION_INT, 1, 65536, 8, NULL, "number of different wrong answers of a prompt"},
    {"length_mean", OPTION_REAL, 1, 1e6, 64, NULL, "mean length of a rollout in tokens"},
    {"length_sigma", OPTION_REAL, 0, 4, 0.5, NULL, "sigma of the lognormal law of lengths; 0 makes all equal"},
    {"latency_ms", OPTION_REAL, 0, 1e7, 0, NULL, "median time that a rollout takes, in ms"},
    {"latency_sigma", OPTION_REAL, 0, 4, 0, NULL, "sigma of the lognormal law of times; 0 makes all equal"},
    {"text_bytes", OPTION_INT, 0, 4194304, 0, NULL, "bytes of a rollout's text; 0: as its tokens say"},
    {"fail_rate", OPTION_REAL, 0, 1, 0, NULL, "probability that an attempt fails"},
    {"drift", OPTION_REAL, 0, 10, 0, NULL,
     "by how much each step moves the odds of a right end (sigma of their logarithm), and the generator foresees it"},
    {"fix", OPTION_REAL, -1, 1, -1, NULL,
     "probability that a revision of a wrong attempt is right; below 0: as if it were drawn anew"},
    {"spoil", OPTION_REAL, -1, 1, -1, NULL,
     "probability that a revision of a right attempt is wrong; below 0: as if it were drawn anew"},
    {0},
};

static const struct option_row exec_options[] = {
    {"command", OPTION_LIST, 0, 0, 0, NULL,
     "program and arguments, run without a shell; speaks one JSON object per line"},
    {0},
};

static const struct option_row openai_options[] = {
    {"api", OPTION_CHOICE, 0, 0, 0, "completions|chat",
     "completions: prompts are texts, made by `template`; chat: they are messages"},
    {"dialect", OPTION_CHOICE, 0, 0, 0, "auto|vllm|sglang|llamacpp|generic",
     "what kind of server it is; auto: whatever it turns out to be"},
    {"model", OPTION_TEXT, 0, 256, 0, "", "the server's name for the model; without it, the first that it serves"},
    {"logprobs", OPTION_INT, -1, 20, 0, NULL,
     "alternatives per token whose log-probabilities are asked for; 0: of the sampled tokens only, -1: none at all"},
    {"top_k", OPTION_INT, 0, 1e9, 0, NULL, "likeliest tokens that are sampled from; 0: all"},
    {"repetition_penalty", OPTION_REAL, 0.01, 10, 1, NULL, "divisor of the logits of tokens that were there before"},
    {"stream", OPTION_CHOICE, 0, 0, 0, "auto|always|never",
     "whether answers come in pieces; auto: when something here may end one early"},
    {"salt", OPTION_TEXT, 0, 256, 0, "", "keeps the server's prefix cache apart from that of others"},
    {"extra", OPTION_TEXT, 0, 16384, 0, "", "JSON object with more fields for the request, as the server knows them"},
    {"continue", OPTION_CHOICE, 0, 0, 0, "auto|text",
     "how a path of a search is continued; auto: by the token ids that the server told, where they are known"},
    {"per_request", OPTION_INT, 1, 64, 1, NULL, "rollouts of one prompt that one request may ask for, by `n`"},
    {"key_file", OPTION_TEXT, 0, 4096, 0, "", "with `url`: file that holds the server's key, as the worker finds it"},
    {"key_env", OPTION_TEXT, 0, 256, 0, "", "with `url`: environment variable of the worker that holds the key"},
    {"ca_file", OPTION_TEXT, 0, 4096, 0, "", "with `url`: file of certificates to trust instead of the system's"},
    {0},
};

static const struct option_row exact_options[] = {
    {"case", OPTION_BOOL, 0, 1, 0, NULL, "true: ignore the case of ASCII letters"},
    {0},
};

static const struct option_row numeric_options[] = {
    {"tolerance", OPTION_REAL, 0, 1, 1e-6, NULL,
     "largest difference that still counts as equal, as a share of the reference"},
    {"absolute", OPTION_REAL, 0, 1e300, 0, NULL,
     "largest difference that still counts as equal, whatever the reference"},
    {0},
};

static const struct option_row math_options[] = {
    {"tolerance", OPTION_REAL, 0, 1, 1e-6, NULL,
     "largest difference that still counts as equal where a decimal point is written, as a share"},
    {"extract", OPTION_BOOL, 0, 1, 0, NULL, "true: look for the final answer in the text, not in the rollout's answer"},
    {0},
};

static const struct option_row cascade_options[] = {
    {"cheap", OPTION_TEXT, 0, 64, 0, NULL, "name of the verifier that is asked first"},
    {"costly", OPTION_TEXT, 0, 64, 0, NULL, "name of the verifier that decides where the first is not sure"},
    {"low", OPTION_REAL, -1e300, 1e300, 0.2, NULL, "smallest score of the first for which the second is asked"},
    {"high", OPTION_REAL, -1e300, 1e300, 0.8, NULL, "largest score of the first for which the second is asked"},
    {"mean", OPTION_BOOL, 0, 1, 0, NULL, "true: where both were asked the score is the mean of theirs"},
    {0},
};

static const struct option_row hybrid_options[] = {
    {"program", OPTION_TEXT, 0, 64, 0, NULL,
     "name of the verifier that runs the text's program and gives what it printed as `output` of its detail"},
    {"reasoning", OPTION_TEXT, 0, 64, 0, "", "name of the verifier whose score counts where the two agree"},
    {"penalty", OPTION_REAL, 0, 1, 0, NULL, "share of the score that is left where the two disagree"},
    {"tolerance", OPTION_REAL, 0, 1, 1e-6, NULL, "as for `math`"},
    {"extract", OPTION_BOOL, 0, 1, 0, NULL, "true: look for the answer in the prose, not in the rollout's answer"},
    {0},
};

static const struct option_row oracle_step_options[] = {
    {"noise", OPTION_REAL, 0, 0.5, 0, NULL,
     "probability that a verdict is turned around, dead for live or live for dead"},
    {"low", OPTION_REAL, 0, 1, 0.02, NULL, "score of a prefix that cannot succeed any more"},
    {"high", OPTION_REAL, 0, 1, 0.98, NULL, "score of a prefix that still can"},
    {0},
};

static const struct option_row noisy_options[] = {
    {"verifier", OPTION_TEXT, 0, 64, 0, NULL, "name of the verifier whose verdicts get noise"},
    {"tpr", OPTION_REAL, 0, 1, 0.9, NULL, "probability that a pass stays a pass"},
    {"fpr", OPTION_REAL, 0, 1, 0.1, NULL, "probability that a fail becomes a pass"},
    {0},
};

static const struct option_row switch_options[] = {
    {"key", OPTION_TEXT, 0, 256, 0, NULL, "key of a prompt's meta that decides"},
    {"cases", OPTION_MAP, 0, 0, 0, NULL, "value of that key to the name of a verifier"},
    {"other", OPTION_TEXT, 0, 64, 0, "",
     "name of the verifier for all other values; without it their verdict is unknown"},
    {0},
};

/* Rows of every verifier that asks servers. */
#define SERVER_OPTIONS                                                                                              \
    {"urls", OPTION_LIST, 0, 0, 0, NULL, "addresses of servers that are alike, http://HOST:PORT"},                  \
        {"model", OPTION_TEXT, 0, 256, 0, "", "the model's name on the server"},                                    \
        {"key_env", OPTION_TEXT, 0, 256, 0, "", "environment variable of the verifier process that holds the key"}, \
        {"key_file", OPTION_TEXT, 0, 4096, 0, "", "file that holds the key, as the verifier finds it"},             \
    {                                                                                                               \
        "ca_file", OPTION_TEXT, 0, 4096, 0, "", "certificates to trust instead of the system's"                     \
    }
#define THRESHOLD_OPTION                                                                                              \
    {                                                                                                                 \
        "threshold", OPTION_REAL, -1e9, 1e9, NAN, NULL, "pass above it, else fail; without it the verdict is a score" \
    }
#define TEMPLATE_HELP "with {prompt} and {text} in it, or a file that holds one, as the verifier finds it"

static const struct option_row reward_options[] = {
    SERVER_OPTIONS,
    {"api", OPTION_CHOICE, 0, 0, 0, "pooling|classify|score|rerank|generic",
     "how the server is asked: vLLM's /pooling or /classify (SGLang's too), /score, /v1/rerank, or by `body` and `path`"},
    {"task", OPTION_TEXT, 0, 64, 0, "auto", "vLLM's name for the work of /pooling; auto tries them"},
    {"route", OPTION_TEXT, 0, 256, 0, "", "path behind the address, where it is not the usual one"},
    {"template", OPTION_TEXT, 0, 65536, 0, "",
     "how prompt and text are put to the model, " TEMPLATE_HELP "; without it they are sent as messages, one text per "
     "request"},
    {"column", OPTION_INT, -1, 65536, -1, NULL, "which number counts where the server gives several"},
    {"activation", OPTION_BOOL, 0, 1, 0, NULL, "true: scores behind the model's activation instead of raw ones"},
    {"body", OPTION_TEXT, 0, 65536, 0, "", "api generic: the JSON to send, " TEMPLATE_HELP},
    {"path", OPTION_TEXT, 0, 255, 0, "", "api generic: where the number is in the answer, as in data.0.score"},
    THRESHOLD_OPTION,
    {0},
};

static const struct option_row prm_options[] = {
    SERVER_OPTIONS,
    {"task", OPTION_TEXT, 0, 64, 0, "auto", "vLLM's name for the work of /pooling; auto tries them"},
    {"route", OPTION_TEXT, 0, 256, 0, "/pooling", "path behind the address"},
    {"template", OPTION_TEXT, 0, 65536, 0, "",
     "how prompt and steps are put to the model, " TEMPLATE_HELP "; without it they are sent as messages, one text per "
     "request"},
    {"step", OPTION_TEXT, 0, 256, 0, "\n\n", "what separates the steps of a text"},
    {"step_tag", OPTION_TEXT, 0, 256, 0, "<extra_0>", "what the model wants behind each step"},
    {"step_token", OPTION_INT, -1, 1e9, -1, NULL, "token id of the tag, for servers that score every token"},
    {"column", OPTION_INT, -1, 65536, -1, NULL, "which number of a step's row is that of a good step; -1: the last"},
    {"reduce", OPTION_CHOICE, 0, 0, 0, "last|min|prod|mean", "how the scores of a finished text's steps become one"},
    THRESHOLD_OPTION,
    {0},
};

static const struct option_row judge_options[] = {
    SERVER_OPTIONS,
    {"mode", OPTION_CHOICE, 0, 0, 0, "votes|yes|points|pairwise|set",
     "what is asked: yes or no in words, P(yes) of one token, points from 1 to 10, which of two is better, points of "
     "several at once"},
    {"dialect", OPTION_CHOICE, 0, 0, 0, "generic|vllm|sglang|llamacpp",
     "the server: what else is sent, so that its defaults do not bend the sampling"},
    {"token_ids", OPTION_LIST, 0, 0, 0, "",
     "mode yes, dialect vllm: ids of the tokens that mean yes and no, where the server's likeliest tokens lack them"},
    {"k", OPTION_INT, 1, 64, 1, NULL, "judgements of each text"},
    {"temperature", OPTION_REAL, 0, 10, 0.6, NULL, "of the judgements; mode yes takes the model's own probabilities"},
    {"max_tokens", OPTION_INT, 1, 1048576, 2048, NULL, "tokens of one judgement, or of one turn of it, at most"},
    {"template", OPTION_TEXT, 0, 65536, 0, "",
     "the question to the judge, " TEMPLATE_HELP "; {answer}, {reference}, {nonce}, {other} of mode pairwise and "
     "{candidates} and {count} of mode set may stand in it; without it a built-in one"},
    {"wait", OPTION_INT, 0, 8, 0, NULL, "times that the judge is told to look again; its last verdict counts"},
    {"meta", OPTION_TEXT, 0, 64, 0, "", "verifier of kind reward that scores the judgements; the better ones are kept"},
    {"keep", OPTION_REAL, 0, 1, 0.5, NULL, "share of the judgements that `meta` keeps"},
    {"reduce", OPTION_CHOICE, 0, 0, 0, "mean|sum", "how points of several judgements become one"},
    {"rounds", OPTION_INT, 0, 64, 0, NULL, "mode pairwise, of groups: neighbours that each candidate meets; 0: all"},
    {"rank", OPTION_CHOICE, 0, 0, 0, "rate|bradley-terry", "mode pairwise: how comparisons become scores"},
    THRESHOLD_OPTION,
    {0},
};

static const struct option_row code_options[] = {
    {"style", OPTION_CHOICE, 0, 0, 0, "humaneval|mbpp|stdio|functional|print",
     "what the tests of a prompt look like; print: none, what the program prints is given to a `hybrid`"},
    {"tier", OPTION_CHOICE, 0, 0, 0, "native|bwrap|gvisor", "weakest sandbox that will do; a node without it refuses"},
    {"cpu", OPTION_INT, 1, 86400, 10, NULL, "seconds of CPU that a program may use"},
    {"memory", OPTION_INT, 16, 1048576, 512, NULL, "MiB of memory that a program may use"},
    {"command", OPTION_LIST, 0, 0, 0, "", "what runs a program (default python3 -I -S); stdio appends the file's name"},
    {"tests", OPTION_TEXT, 0, 64, 0, "",
     "key of the prompt's record that holds the tests (default: as the style has it)"},
    {"setup", OPTION_TEXT, 0, 64, 0, "", "key that holds what runs before the tests (default: as the style has it)"},
    {"entry_point", OPTION_TEXT, 0, 64, 0, "", "key that holds the function's name (default: entry_point)"},
    {0},
};

static const struct option_row mbr_options[] = {
    {"utility", OPTION_CHOICE, 0, 0, 0, "chrf|words", "of a pair: F2 of character n-grams, or F1 of words"},
    {0},
};

const struct kind backend_kinds[] = {
    {"tinylm", "the embedded tiny language model", NULL},
    {"replay", "recorded rollouts from a CSV or JSONL file", replay_options},
    {"synthetic", "rollouts drawn from known laws, for tests, planning and load", synthetic_options},
    {"exec", "any program that speaks JSON lines", exec_options},
    {"openai", "inference servers: vLLM, SGLang, llama.cpp, anything with OpenAI's routes", openai_options},
    {"candidates", "fixed candidates that came with the prompts, only to be judged", NULL},
    {0},
};

const struct kind verifier_kinds[] = {
    {"exact", "the answer equals the prompt's `answer`", exact_options},
    {"numeric", "the answer is the number that the prompt's `answer` is", numeric_options},
    {"math", "the answer is the prompt's `answer` as mathematics", math_options},
    {"countdown", "the steps of a countdown problem are legal and reach the target", NULL},
    {"chain", "the steps of an arithmetic chain are right", NULL},
    {"oracle-step", "scores a prefix by whether it can still succeed", oracle_step_options},
    {"noisy", "another verifier with known error rates", noisy_options},
    {"label", "the label that came with a candidate (backend candidates)", NULL},
    {"switch", "one of several verifiers, chosen by a key of the prompt's meta", switch_options},
    {"code", "a program passes its unit tests, run in a sandbox", code_options},
    {"cascade", "a cheap verifier, and a costly one where the first is not sure", cascade_options},
    {"hybrid", "the text's answer is what its program prints", hybrid_options},
    {"mbr", "how much a text has in common with the other rollouts of its prompt", mbr_options},
    {"exec", "any program that speaks JSON lines", exec_options},
    {"reward", "a number from a reward model or cross-encoder over HTTP", reward_options},
    {"prm", "a score per step from a process reward model over HTTP", prm_options},
    {"judge", "a language model that judges over HTTP", judge_options},
    {0},
};

unsigned backend_has(const char *name)
{
    static const struct {
        const char *name;
        unsigned has;
    } rows[] = {
        {"tinylm", BACKEND_STEPS | BACKEND_KILLS | BACKEND_THINKS | BACKEND_TURNS},
        {"synthetic", BACKEND_STEPS | BACKEND_THINKS | BACKEND_TURNS},
        {"exec", BACKEND_STEPS | BACKEND_THINKS | BACKEND_TURNS},
        {"openai", BACKEND_STEPS | BACKEND_OFFERS | BACKEND_PREFIX | BACKEND_KILLS | BACKEND_THINKS | BACKEND_TURNS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].has;
    return 0;
}
