/* check_mbr.c - minimum Bayes risk: how much a text has in common with the other rollouts of its prompt.
 *
 * The text that is nearest to all others, by a utility of pairs, is the one with the least expected loss if they stand
 * for what the model believes (Kumar and Byrne 2004; Eikema and Aziz 2022). Score: the mean utility against the others,
 * in [0, 1]. Utilities: chrF (Popovic 2015), the F2 of character n-grams for n = 1 to 6 without white space, with precision
 * and recall averaged over n; or F1 of words. With a judge in place of these: kind judge, mode pairwise. */
#include "common/hash.h"
#include "common/json.h"
#include "common/limits.h"
#include "verifier/inner.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { ORDERS = 6, WORDS = 1 };

/* Of characters: from each place on, its next ORDERS bytes from the highest of the number downwards, zeros behind the end,
 * and in its lowest byte how many they are; sorted, so that the n-grams of any n stand in order, too. It is 8 bytes a
 * character for all n. Of words: their hashes, sorted. */
struct profile {
    uint64_t *grams;
    size_t len;
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
        free(mbr->profiles[i].grams);
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
    profile->grams = xalloc((text.len / 2 + 1) * sizeof *profile->grams);
    for (size_t at = 0; at < text.len;) {
        size_t from = at;
        while (at < text.len && !white(text.data[at]))
            at++;
        if (at > from)
            profile->grams[profile->len++] = hash_bytes(text.data + from, at - from);
        while (at < text.len && white(text.data[at]))
            at++;
    }
}

static uint64_t gram_at(const char *text, size_t left)
{
    uint64_t gram = 0;
    for (size_t i = 0; i < ORDERS; i++)
        gram = gram << 8 | (i < left ? (unsigned char)text[i] : 0);
    return gram << 16 | (left < ORDERS ? left : ORDERS);
}

/* Bytes stand for characters: n-grams of UTF-8 are shorter so, for both texts alike. */
static void add_characters(struct slice text, struct profile *profile)
{
    char *dense = xalloc(text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++)
        if (!white(text.data[i]))
            dense[len++] = text.data[i];
    profile->len = len;
    profile->grams = xalloc((len + 1) * sizeof *profile->grams);
    for (size_t i = 0; i < len; i++)
        profile->grams[i] = gram_at(dense + i, len - i);
    free(dense);
}

static void profile_of(const struct mbr *mbr, struct slice text, struct profile *profile)
{
    if (mbr->utility == WORDS)
        add_words(text, profile);
    else
        add_characters(text, profile);
    qsort(profile->grams, profile->len, sizeof *profile->grams, rising);
}

/* What is compared: words, or the n-grams of characters for one n, which are the first n bytes of those that have them. */
struct order {
    size_t n; /* 0: words */
    int shift;
};

static size_t skip_short(const struct profile *profile, size_t at, size_t n)
{
    while (at < profile->len && (profile->grams[at] & 0xff) < n)
        at++;
    return at;
}

static size_t shared(const struct profile *a, const struct profile *b, struct order order)
{
    size_t count = 0, i = skip_short(a, 0, order.n), j = skip_short(b, 0, order.n);
    while (i < a->len && j < b->len) {
        uint64_t x = a->grams[i] >> order.shift, y = b->grams[j] >> order.shift;
        count += x == y;
        if (x <= y)
            i = skip_short(a, i + 1, order.n);
        if (y <= x)
            j = skip_short(b, j + 1, order.n);
    }
    return count;
}

static size_t grams_of(const struct profile *profile, size_t n)
{
    if (n == 0)
        return profile->len;
    return profile->len >= n ? profile->len - n + 1 : 0;
}

/* F of a text against another that is taken for right. */
static double utility(const struct mbr *mbr, const struct profile *text, const struct profile *right)
{
    bool words = mbr->utility == WORDS;
    double beta2 = words ? 1 : 4, precision = 0, recall = 0;
    size_t orders = 0;
    for (size_t n = words ? 0 : 1; n <= (words ? 0 : ORDERS); n++) {
        size_t mine = grams_of(text, n), its = grams_of(right, n);
        if (mine == 0 || its == 0)
            continue;
        double common = (double)shared(text, right, (struct order){n, n == 0 ? 0 : 64 - 8 * (int)n});
        precision += common / (double)mine;
        recall += common / (double)its;
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

/* Too much text for the memory of a verifier. It is what the model wrote, so a verdict and no failure of the task. */
static bool too_large(const struct check_input *input, struct verdict *verdict)
{
    size_t len = 0;
    for (uint32_t i = 0; i < input->group_len; i++)
        len += input->group[i].len;
    if (len <= LIMIT_COMPARED)
        return false;
    struct buf why = {0};
    buf_printf(&why,
               "the %u rollouts of this prompt have %zu bytes, and mbr compares %u at most: lower `n`, or `max_tokens` "
               "of the model",
               input->group_len, len, LIMIT_COMPARED);
    *verdict = (struct verdict){.outcome = OUTCOME_ERROR};
    json_begin(input->detail, '{');
    json_key(input->detail, "error");
    json_str(input->detail, why.data);
    json_end(input->detail, '}');
    buf_clear(&why);
    return true;
}

/* Rollouts that failed have no text and are no evidence. One that is alone is as good as any, as for a judge. */
static int mbr_run(void *state, const struct check_input *input, struct verdict *verdict, struct error *error)
{
    struct mbr *mbr = state;
    if (input->group_len == 0 || input->ordinal >= input->group_len)
        return error_set(error, ERR_REFUSED,
                         "mbr compares all rollouts of a prompt, so it cannot stand inside another "
                         "verifier: name it in the arm");
    if (too_large(input, verdict))
        return 0;
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
