/* kill.c - see kill.h. */
#include "broker/policy/kill.h"

#include "broker/policy/kernel_select.h"

bool warmup_add(struct warmup *warmup, const struct kill_rule *rule, const struct item *item)
{
    if (warmup->len < rule->warmup)
        warmup->len += item_feature(item, FEATURE_CONF_MIN, &warmup->weights[warmup->len]);
    return warmup->len == rule->warmup;
}

bool kill_same(const struct kill_rule *a, const struct kill_rule *b)
{
    return a->window == b->window && a->warmup == b->warmup && a->keep == b->keep;
}

double warmup_threshold(struct warmup *warmup, const struct kill_rule *rule)
{
    return quantile_linear(warmup->weights, warmup->len, 1 - rule->keep / 100);
}
