/* math_unit.c - units behind a number, and when two of them measure the same; see math_parts.h. */
#include "common/hash.h"
#include "verifier/math_parts.h"

#include <string.h>

/* Base units: metre, kilogram, second, dollar. `bare` ones are taken for units outside of \text too. */
static const struct {
    const char *names; /* space around each; a plural s is left out */
    enum dimension dimension;
    int exponent;
    double factor;
} units[] = {
    {" m meter metre ", DIMENSION_LENGTH, 1, 1},
    {" mm millimeter millimetre ", DIMENSION_LENGTH, 1, 1e-3},
    {" cm centimeter centimetre ", DIMENSION_LENGTH, 1, 1e-2},
    {" km kilometer kilometre ", DIMENSION_LENGTH, 1, 1e3},
    {" in inch inche ", DIMENSION_LENGTH, 1, 0.0254},
    {" ft foot feet ", DIMENSION_LENGTH, 1, 0.3048},
    {" yd yard ", DIMENSION_LENGTH, 1, 0.9144},
    {" mi mile ", DIMENSION_LENGTH, 1, 1609.344},
    {" l liter litre ", DIMENSION_LENGTH, 3, 1e-3},
    {" ml milliliter millilitre cc ", DIMENSION_LENGTH, 3, 1e-6},
    {" gallon gal ", DIMENSION_LENGTH, 3, 3.785411784e-3},
    {" kg kilogram kilo ", DIMENSION_MASS, 1, 1},
    {" g gram gm ", DIMENSION_MASS, 1, 1e-3},
    {" mg milligram ", DIMENSION_MASS, 1, 1e-6},
    {" lb pound ", DIMENSION_MASS, 1, 0.45359237},
    {" oz ounce ", DIMENSION_MASS, 1, 0.028349523125},
    {" ton ", DIMENSION_MASS, 1, 1000},
    {" s sec second ", DIMENSION_TIME, 1, 1},
    {" min minute ", DIMENSION_TIME, 1, 60},
    {" h hr hour ", DIMENSION_TIME, 1, 3600},
    {" day ", DIMENSION_TIME, 1, 86400},
    {" week ", DIMENSION_TIME, 1, 604800},
    {" month ", DIMENSION_TIME, 1, 2629800},
    {" year yr ", DIMENSION_TIME, 1, 31557600},
    {" dollar usd buck ", DIMENSION_MONEY, 1, 1},
    {" cent ", DIMENSION_MONEY, 1, 0.01},
};

/* Abbreviations that no answer means as a product of variables when a number stands before them. */
static const char bare[] = " mm cm km in ft yd mi ml kg mg lb lbs oz sec min hr hrs mph cc usd deg ";
static const char ignored[] = " of the a an each total unit only or about ";

static bool listed(const char *list, struct slice word)
{
    char key[32];
    if (word.len + 3 > sizeof key)
        return false;
    key[0] = ' ';
    for (size_t i = 0; i < word.len; i++) {
        char c = word.data[i];
        key[i + 1] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    memcpy(key + 1 + word.len, " ", 2);
    return strstr(list, key) != NULL;
}

bool unit_word(struct slice word)
{
    return listed(bare, word);
}

static struct slice singular(struct slice word)
{
    if (word.len > 1 && (word.data[word.len - 1] == 's' || word.data[word.len - 1] == 'S'))
        word.len--;
    return word;
}

/* Of one word, raised to `exponent`; what it added, to be undone. */
static void add_word(struct slice word, int exponent, struct unit *unit)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (!listed(units[i].names, word) && !listed(units[i].names, singular(word)))
            continue;
        unit->exponent[units[i].dimension] += exponent * units[i].exponent;
        for (int k = 0; k < (exponent < 0 ? -exponent : exponent); k++)
            unit->factor = exponent < 0 ? unit->factor / units[i].factor : unit->factor * units[i].factor;
        return;
    }
    if (listed(ignored, word) || listed(ignored, singular(word)) || unit->words_len == 8)
        return;
    char lower[64];
    word = singular(word);
    size_t len = word.len < sizeof lower ? word.len : sizeof lower;
    for (size_t i = 0; i < len; i++)
        lower[i] = word.data[i] >= 'A' && word.data[i] <= 'Z' ? (char)(word.data[i] + 32) : word.data[i];
    unit->words[unit->words_len++] = hash_bytes(lower, len);
}

/* The exponent that stands behind token i, if any: ^2, ^{2}, "squared"; *i moves past it. */
static int exponent_behind(const struct token *tokens, uint32_t len, uint32_t *i)
{
    uint32_t at = *i + 1;
    if (at < len && tokens[at].kind == TOKEN_WORD && listed(" squared cubed ", tokens[at].text)) {
        *i = at;
        return listed(" squared ", tokens[at].text) ? 2 : 3;
    }
    if (at >= len || tokens[at].kind != TOKEN_CODE || tokens[at].code != '^')
        return 1;
    for (at++; at < len && (tokens[at].kind == TOKEN_CODE && tokens[at].code != '/'); at++)
        if (tokens[at].code != '{')
            return 1;
    if (at >= len || tokens[at].kind != TOKEN_NUMBER || tokens[at].number.digits.len != 1)
        return 1;
    *i = at;
    return tokens[at].number.digits.data[0] - '0';
}

void unit_read(const struct token *tokens, uint32_t len, struct unit *unit)
{
    int sign = 1, power = 1;
    for (uint32_t i = 0; i < len; i++) {
        const struct token *token = &tokens[i];
        if (token->kind == TOKEN_CODE && token->code == CODE_DOLLAR) {
            unit->exponent[DIMENSION_MONEY]++;
        } else if ((token->kind == TOKEN_CODE && token->code == '/') ||
                   (token->kind == TOKEN_WORD && listed(" per ", token->text))) {
            sign = -1;
        } else if (token->kind == TOKEN_WORD && listed(" square sq cubic cu ", token->text)) {
            power = listed(" square sq ", token->text) ? 2 : 3;
        } else if (token->kind == TOKEN_WORD && listed(" mph ", token->text)) {
            add_word((struct slice){"mile", 4}, sign, unit);
            add_word((struct slice){"hour", 4}, -sign, unit);
        } else if (token->kind == TOKEN_WORD) {
            int exponent = exponent_behind(tokens, len, &i);
            add_word(token->text, sign * power * exponent, unit);
            power = 1;
        }
    }
}

bool unit_known(const struct unit *unit)
{
    for (int i = 0; i < DIMENSIONS; i++)
        if (unit->exponent[i] != 0)
            return true;
    return false;
}
