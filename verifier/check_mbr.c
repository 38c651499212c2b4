/* check_mbr.c - minimum Bayes risk: how much a text has in common with the other rollouts of its prompt.
 *
 * The text that is nearest to all others, by a utility of pairs, is the one with the least expected loss if they stand
 * for what the model believes (Kumar and Byrne 2004; Eikema and Aziz 2022). Score: the mean utility against the others,
 * in [0, 1]. Utilities: chrF (Popovic 2015), the F2 of character n-grams for n = 1 to 6 without white space, with precision
 * and recall averaged over n; or F1 of words. With a judge in place of these: kind judge, mode pairwise. */
#include "common/hash.h"
#include "verifier/inner.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { ORDERS = 6, WORDS = 1 };

/* The n-grams of a text as sorted hashes, by n - 1. */
struct profile {
    uint64_t *grams[ORDERS];
    size_t len[ORDERS];
};

struct mbr {
    size_t utility; /* 0: chrf, 1: words */
    uint64_t hash;  /* of the group whose profiles these are: its tasks tend to come one after the other */
    struct profile *profiles;
    uint32_t profiles_len;
};

static void profiles_clear(struct mbr *mbr)
{
    for (uint32_t i = 0; i < mbr->profiles_len; i++)
        for (size_t n = 0; n < ORDERS; n++)
            free(mbr->profiles[i].grams[n]);
    free(mbr->profiles);
    mbr->profiles = NULL;
    mbr->profiles_len = 0;
}

static void mbr_close(void **state)
{
    struct mbr *mbr = *state;
    if (mbr == NULL)
        return;
    profiles_clear(mbr);
    free(mbr);
    *state = NULL;
}

static int mbr_open(struct slice spec, void **state, struct error *error)
{
    struct json_t *doc;
    struct slice word;
    int code = doc_parse(spec, &doc, error);
    if (code < 0)
        return code;
    struct mbr mbr = {0};
    if (doc_text(doc_object(doc, "options"), "utility", &word)) {
        mbr.utility = strcmp(word.data, "words") == 0;
        if (mbr.utility != WORDS && strcmp(word.data, "chrf") != 0)
            code = error_set(error, ERR_RANGE, "option `utility` cannot be `%.40s`; it is chrf or words", word.data);
    }
    doc_free(&doc);
    if (code == 0)
        *state = memcpy(xalloc(sizeof mbr), &mbr, sizeof mbr);
    return code;
}

/* -- what two texts have in common ------------------------------------------------------------------------------------ */

static int rising(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool white(char c)
{
    return isspace((unsigned char)c) != 0;
}

static void add_words(struct slice text, struct profile *profile)
{
    profile->grams[0] = xalloc((text.len / 2 + 1) * sizeof *profile->grams[0]);
    for (size_t at = 0; at < text.len;) {
        size_t from = at;
        while (at < text.len && !white(text.data[at]))
            at++;
        if (at > from)
            profile->grams[0][profile->len[0]++] = hash_bytes(text.data + from, at - from);
        while (at < text.len && white(text.data[at]))
            at++;
    }
}

/* Bytes stand for characters: n-grams of UTF-8 are shorter so, for both texts alike. */
static void add_characters(struct slice text, struct profile *profile)
{
    char *dense = xalloc(text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++)
        if (!white(text.data[i]))
            dense[len++] = text.data[i];
    for (size_t n = 0; n < ORDERS && n < len; n++) {
        profile->len[n] = len - n;
        profile->grams[n] = xalloc(profile->len[n] * sizeof *profile->grams[n]);
        for (size_t i = 0; i < profile->len[n]; i++)
            profile->grams[n][i] = hash_bytes(dense + i, n + 1);
    }
    free(dense);
}

static void profile_of(const struct mbr *mbr, struct slice text, struct profile *profile)
{
    if (mbr->utility == WORDS)
        add_words(text, profile);
    else
        add_characters(text, profile);
    for (size_t n = 0; n < ORDERS; n++)
        if (profile->len[n] > 0)
            qsort(profile->grams[n], profile->len[n], sizeof *profile->grams[n], rising);
}

static size_t shared(const struct profile *a, const struct profile *b, size_t n)
{
    size_t i = 0, j = 0, count = 0;
    while (i < a->len[n] && j < b->len[n]) {
        if (a->grams[n][i] == b->grams[n][j]) {
            count++, i++, j++;
        } else if (a->grams[n][i] < b->grams[n][j]) {
            i++;
        } else {
            j++;
        }
    }
    return count;
}

/* F of a text against another that is taken for right. */
static double utility(const struct mbr *mbr, const struct profile *text, const struct profile *right)
{
    double beta2 = mbr->utility == WORDS ? 1 : 4, precision = 0, recall = 0;
    size_t orders = 0;
    for (size_t n = 0; n < ORDERS; n++) {
        if (text->len[n] == 0 || right->len[n] == 0)
            continue;
        double common = (double)shared(text, right, n);
        precision += common / (double)text->len[n];
        recall += common / (double)right->len[n];
        orders++;
    }
    if (orders == 0 || precision + recall == 0)
        return 0;
    return (1 + beta2) * precision * recall / (beta2 * precision + recall) / (double)orders;
}

/* -- a verdict -------------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(const struct check_input *input)
{
    uint64_t hash = hash_bytes(input->record.data, input->record.len);
    for (uint32_t i = 0; i < input->group_len; i++)
        hash = hash_more(hash, input->group[i].data, input->group[i].len);
    return hash;
}

static void want_profiles(struct mbr *mbr, const struct check_input *input)
{
    uint64_t hash = hash_of(input);
    if (mbr->profiles != NULL && mbr->hash == hash && mbr->profiles_len == input->group_len)
        return;
    profiles_clear(mbr);
    mbr->hash = hash;
    mbr->profiles_len = input->group_len;
    mbr->profiles = xalloc(input->group_len * sizeof *mbr->profiles);
    for (uint32_t i = 0; i < input->group_len; i++)
        profile_of(mbr, input->group[i], &mbr->profiles[i]);
}

/* Rollouts that failed have no text and are no evidence. One that is alone is as good as any, as for a judge. */
static int mbr_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct mbr *mbr = state;
    if (input->group_len == 0 || input->ordinal >= input->group_len)
        return error_set(error, ERR_REFUSED,
                         "mbr compares all rollouts of a prompt, so it cannot stand inside another "
                         "verifier: name it in the arm");
    want_profiles(mbr, input);
    double sum = 0;
    uint32_t others = 0;
    for (uint32_t i = 0; i < input->group_len; i++) {
        if (i == input->ordinal || input->group[i].len == 0)
            continue;
        sum += utility(mbr, &mbr->profiles[input->ordinal], &mbr->profiles[i]);
        others++;
    }
    *verdict = (struct verdict){.outcome = OUTCOME_SCORE, .score = others > 0 ? sum / others : 0.5};
    return 0;
}

const struct check check_mbr = {
    .name = "mbr",
    .help = "how much a text has in common with the other rollouts of its prompt",
    .open = mbr_open,
    .run = mbr_run,
    .close = mbr_close,
};
