/* gpus.h - the GPUs of this machine, and how they are dealt to the inference servers that a worker starts. */
#ifndef DROVER_GPUS_H
#define DROVER_GPUS_H

#include "common/buf.h"
#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { GPUS_MAX = 64, GPU_TEXT = 64, GPU_GROUP = 512 };

struct gpu {
    char id[GPU_TEXT];   /* as CUDA_VISIBLE_DEVICES names it: an index, or a UUID */
    char name[GPU_TEXT]; /* "" when nothing is known of it */
};

struct gpus {
    struct gpu gpu[GPUS_MAX];
    size_t len;
    bool known; /* something told of this machine's GPUs: others than these are mistakes */
};

/* What nvidia-smi printed, as CSV of index, uuid, name without a header; visible: CUDA_VISIBLE_DEVICES, which leaves those
 * that it names, or NULL. */
void gpus_read(struct slice csv, const char *visible, struct gpus *gpus);

/* Asks nvidia-smi, if there is one, and the environment. */
void gpus_find(struct gpus *gpus);

/* What each server gets: the value of CUDA_VISIBLE_DEVICES, "" for the CPU. */
struct gpu_plan {
    char group[GPUS_MAX][GPU_GROUP];
    size_t len;
    char devices[256]; /* "2x NVIDIA H200", for people */
};

/* text: "auto" (a server on each GPU), a number (on each of the first so many), "0,1;2,3" (one per group), "none" (one on the
 * CPU), "cpu:N" (N on the CPU). ERR_SYNTAX, ERR_NOT_FOUND (no such GPU), ERR_LIMIT. */
int gpus_plan(const char *text, const struct gpus *gpus, struct gpu_plan *plan, struct error *error);

#endif
