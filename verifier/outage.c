/* outage.c - see outage.h. */
#include "verifier/outage.h"
#include "common/io/log.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { AWAY_MAX = 64 }; /* more are neither said nor shown */

static struct {
    pthread_mutex_t lock;
    struct {
        char url[256], why[256];
    } away[AWAY_MAX];
    size_t len;
} outages = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t find(const char *url)
{
    size_t i = 0;
    while (i < outages.len && strncmp(outages.away[i].url, url, sizeof outages.away[i].url - 1) != 0)
        i++;
    return i;
}

void outage_begin(const char *url, const char *why)
{
    pthread_mutex_lock(&outages.lock);
    bool news = find(url) == outages.len && outages.len < AWAY_MAX;
    if (news) {
        snprintf(outages.away[outages.len].url, sizeof outages.away[0].url, "%s", url);
        snprintf(outages.away[outages.len].why, sizeof outages.away[0].why, "%s", why);
        outages.len++;
    }
    pthread_mutex_unlock(&outages.lock);
    if (news)
        log_line(0, "%s; it is asked again and again", why);
}

void outage_end(const char *url, bool answered)
{
    pthread_mutex_lock(&outages.lock);
    size_t i = find(url);
    bool news = i < outages.len;
    if (news) {
        outages.len--;
        memmove(&outages.away[i], &outages.away[i + 1], (outages.len - i) * sizeof outages.away[0]);
    }
    pthread_mutex_unlock(&outages.lock);
    if (news && answered)
        log_line(0, "%s answers again", url);
}

bool outage_text(char *text, size_t size)
{
    pthread_mutex_lock(&outages.lock);
    bool any = outages.len > 0;
    snprintf(text, size, "%s", any ? outages.away[0].why : "");
    pthread_mutex_unlock(&outages.lock);
    return any;
}
