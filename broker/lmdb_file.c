/* lmdb_file.c - reads LMDB's file page by page before LMDB does; see lmdb_file.h.
 *
 * Layout (lmdb 0.9, mdb.c): page = header of 16 bytes (number u64, pad u16, flags u16, lower u16,
 * upper u16), then u16 offsets of nodes up to `lower`, free space, nodes from `upper` on. Node = lo
 * u16, hi u16, flags u16, key size u16, key, data. Pages 0 and 1 hold a meta record each; commit t
 * writes page t & 1. */
#include "broker/lmdb_file.h"

#include "common/buf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PAGE_HEADER = 16,
    NODE_HEADER = 8,
    PAGE_BRANCH = 0x01,
    PAGE_LEAF = 0x02,
    PAGE_META = 0x08,
    NODE_BIG = 0x01,     /* the data is the number of its first overflow page */
    NODE_TREE = 0x02,    /* the data is a tree record */
    TREE_INTEGER = 0x08, /* keys are u64 */
    DEPTH_MAX = 32,
    PAGE_SIZE_MAX = 65536,
    META_LEN = 136,
    TREE_LEN = 48,
};

static const uint64_t no_page = UINT64_MAX;

struct tree {
    uint32_t pad; /* of the free tree: the page size */
    uint16_t flags, depth;
    uint64_t branches, leaves, overflows, entries, root;
};

struct meta {
    uint32_t magic, version;
    uint64_t address, map_size;
    struct tree free, main;
    uint64_t last_page, txnid;
};

_Static_assert(sizeof(struct tree) == TREE_LEN, "layout of LMDB's MDB_db");
_Static_assert(sizeof(struct meta) == META_LEN, "layout of LMDB's MDB_meta");

static uint16_t u16_at(const unsigned char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t u64_at(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static bool read_at(int fd, void *to, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = pread(fd, (char *)to + done, len - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

static bool meta_read(int fd, uint64_t offset, struct meta *meta)
{
    unsigned char page[PAGE_HEADER + META_LEN];
    if (!read_at(fd, page, sizeof(page), offset))
        return false;
    memcpy(meta, page + PAGE_HEADER, sizeof(*meta));
    return u16_at(page + 10) == PAGE_META && meta->magic == 0xBEEFC0DE;
}

static bool page_size_plausible(uint32_t size)
{
    return size >= 512 && size <= PAGE_SIZE_MAX && (size & (size - 1)) == 0;
}

static int metas_read(int fd, const char *path, struct meta metas[2], struct error *error)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return error_set(error, ERR_IO, "cannot read '%s': %s", path, strerror(errno));
    if (!meta_read(fd, 0, &metas[0]))
        return error_set(error, ERR_CORRUPT, "'%s' is not a journal of drover, or is damaged", path);
    uint32_t size = metas[0].free.pad;
    if (metas[0].version != 1)
        return error_set(error, ERR_CORRUPT, "'%s' is an LMDB file of data version %u, not 1", path, metas[0].version);
    if (!page_size_plausible(size))
        return error_set(error, ERR_CORRUPT, "'%s' is damaged: page size %u in its head", path, size);
    if ((uint64_t)st.st_size < 2 * (uint64_t)size)
        return error_set(error, ERR_CORRUPT, "'%s' is truncated: %lld bytes hold no two meta pages", path,
                         (long long)st.st_size);
    if (!meta_read(fd, size, &metas[1]) || metas[1].version != 1 || metas[1].free.pad != size)
        return error_set(error, ERR_CORRUPT, "'%s' is damaged: its second meta page", path);
    return 0;
}

int lmdb_file_check_head(int fd, const char *path, uint64_t *txnid, struct error *error)
{
    struct meta metas[2];
    int rc = metas_read(fd, path, metas, error);
    if (rc != 0)
        return rc;
    /* Commits alternate between the pages, so their numbers are neighbours (0 and 0 in a new file).
     * A lone number means damage: believing it would hide the newest commit. */
    uint64_t even = metas[0].txnid, odd = metas[1].txnid;
    bool fresh = even == 0 && odd == 0;
    if (!fresh && ((even & 1) != 0 || (odd & 1) == 0 || (even + 1 != odd && odd + 1 != even)))
        return error_set(error, ERR_CORRUPT,
                         "'%s' is damaged: its meta pages are of transactions %" PRIu64 " and %" PRIu64, path, even,
                         odd);
    const struct meta *newest = odd > even ? &metas[1] : &metas[0];
    /* The size is read after the pages: a writer beside us only makes the file longer. */
    struct stat st;
    if (fstat(fd, &st) != 0)
        return error_set(error, ERR_IO, "cannot read '%s': %s", path, strerror(errno));
    uint64_t pages = (uint64_t)st.st_size / newest->free.pad;
    if (newest->last_page < 1 || newest->last_page >= pages)
        return error_set(error, ERR_CORRUPT,
                         "'%s' is truncated: it has %" PRIu64 " pages and its head says %" PRIu64
                         " - restore it from a copy",
                         path, pages, newest->last_page + 1);
    if (txnid != NULL)
        *txnid = newest->txnid;
    return 0;
}

struct walk {
    int fd;
    uint32_t page_size;
    uint64_t pages;                   /* in use or free: numbers below this */
    unsigned char *seen;              /* bit per page: reached from a tree, or on the free list */
    unsigned char *levels[DEPTH_MAX]; /* the page being walked on each level */
    const char *wrong;                /* what is wrong, once something is */
    uint64_t where;                   /* on which page */
};

/* One tree being walked: what was counted, to compare with its record, and how far the keys are. */
struct tour {
    const struct tree *tree;
    struct tree counted;
    bool is_free;         /* the free list: its data are page numbers */
    bool any;             /* a key was seen */
    uint64_t last, floor; /* of u64 keys: the last seen, and what a branch promised */
};

static bool wrong(struct walk *walk, uint64_t page, const char *what)
{
    if (walk->wrong == NULL) {
        walk->wrong = what;
        walk->where = page;
    }
    return false;
}

/* Takes `count` pages from `first` on: inside the file, and nobody else's. */
static bool claim(struct walk *walk, uint64_t first, uint64_t count)
{
    if (first < 2 || first >= walk->pages || count > walk->pages - first)
        return wrong(walk, first, "lies outside the file");
    for (uint64_t p = first; p < first + count; p++) {
        if (walk->seen[p >> 3] & (1u << (p & 7)))
            return wrong(walk, p, "is used twice");
        walk->seen[p >> 3] |= (unsigned char)(1u << (p & 7));
    }
    return true;
}

/* One record of the free list: count, then as many page numbers. */
static bool check_free(struct walk *walk, uint64_t page, const unsigned char *data, size_t len)
{
    if (len < 8 || u64_at(data) > len / 8 - 1)
        return wrong(walk, page, "holds a bad free list");
    uint64_t count = u64_at(data);
    for (uint64_t i = 1; i <= count; i++) {
        if (i > 1 && u64_at(data + i * 8) >= u64_at(data + i * 8 - 8))
            return wrong(walk, page, "holds an unordered free list");
        if (!claim(walk, u64_at(data + i * 8), 1))
            return false;
    }
    return true;
}

static bool check_key(struct walk *walk, struct tour *tour, uint64_t page, const unsigned char *key, size_t len)
{
    if (len == 0 || len > 511)
        return wrong(walk, page, "has a key of a bad length");
    if (!(tour->tree->flags & TREE_INTEGER))
        return true;
    if (len != 8)
        return wrong(walk, page, "has a key that is no number");
    uint64_t number = u64_at(key);
    if ((tour->any && number <= tour->last) || number < tour->floor)
        return wrong(walk, page, "has keys out of order");
    tour->last = number;
    tour->any = true;
    return true;
}

static bool walk_tree(struct walk *walk, const struct tree *tree, bool is_free, int nested);

/* Data on overflow pages of their own; LMDB never looks at more than the page number and the
 * length. */
static bool check_big(struct walk *walk, struct tour *tour, uint64_t first, size_t len)
{
    uint64_t count = (PAGE_HEADER - 1 + (uint64_t)len) / walk->page_size + 1;
    if (!claim(walk, first, count))
        return false;
    tour->counted.overflows += count;
    if (!tour->is_free)
        return true;
    unsigned char *data = xalloc(len);
    bool good =
        read_at(walk->fd, data, len, first * walk->page_size + PAGE_HEADER) || wrong(walk, first, "cannot be read");
    good = good && check_free(walk, first, data, len);
    free(data);
    return good;
}

static bool check_data(struct walk *walk, struct tour *tour, uint64_t page, const unsigned char *node, int nested)
{
    size_t len = u16_at(node) | (size_t)u16_at(node + 2) << 16;
    uint16_t flags = u16_at(node + 4);
    const unsigned char *data = node + NODE_HEADER + u16_at(node + 6);
    tour->counted.entries++;
    if (flags == NODE_BIG)
        return check_big(walk, tour, u64_at(data), len);
    if (flags == NODE_TREE && nested == 0 && !tour->is_free && len == TREE_LEN) {
        struct tree below;
        memcpy(&below, data, sizeof(below));
        if (below.flags & ~TREE_INTEGER)
            return wrong(walk, page, "names a tree of a foreign kind");
        return walk_tree(walk, &below, false, nested + 1);
    }
    if (flags != 0)
        return wrong(walk, page, "has a node of a foreign kind");
    return !tour->is_free || check_free(walk, page, data, len);
}

/* Bytes of the node at `offset`, 0 when it does not fit in the page. */
static size_t node_len(const struct walk *walk, const unsigned char *page, size_t offset, bool leaf)
{
    if (offset + NODE_HEADER > walk->page_size || (offset & 1) != 0)
        return 0;
    const unsigned char *node = page + offset;
    size_t len = (size_t)NODE_HEADER + u16_at(node + 6);
    if (leaf)
        len += u16_at(node + 4) & NODE_BIG ? 8 : u16_at(node) | (size_t)u16_at(node + 2) << 16;
    len = (len + 1) & ~(size_t)1;
    return len <= walk->page_size - offset ? len : 0;
}

static bool check_layout(struct walk *walk, uint64_t number, const unsigned char *page, bool leaf)
{
    size_t lower = u16_at(page + 12), upper = u16_at(page + 14), used = 0;
    if (u64_at(page) != number || u16_at(page + 10) != (leaf ? PAGE_LEAF : PAGE_BRANCH))
        return wrong(walk, number, "is not the page that was linked");
    if (lower < PAGE_HEADER || lower > upper || upper > walk->page_size || (lower & 1) != 0)
        return wrong(walk, number, "has bad bounds");
    size_t nodes = (lower - PAGE_HEADER) / 2;
    if (nodes < (leaf ? 1u : 2u))
        return wrong(walk, number, "is empty");
    for (size_t i = 0; i < nodes; i++) {
        size_t offset = u16_at(page + PAGE_HEADER + 2 * i);
        size_t len = offset >= upper ? node_len(walk, page, offset, leaf) : 0;
        if (len == 0)
            return wrong(walk, number, "has a node outside of it");
        used += len;
    }
    if (used != walk->page_size - upper)
        return wrong(walk, number, "has overlapping nodes");
    return true;
}

static bool walk_page(struct walk *walk, struct tour *tour, uint64_t number, int level, int nested);

static bool walk_branch(struct walk *walk, struct tour *tour, const unsigned char *page, int level, int nested)
{
    size_t nodes = (size_t)(u16_at(page + 12) - PAGE_HEADER) / 2;
    uint64_t number = u64_at(page);
    tour->counted.branches++;
    for (size_t i = 0; i < nodes; i++) {
        const unsigned char *node = page + u16_at(page + PAGE_HEADER + 2 * i);
        uint64_t child = u16_at(node) | (uint64_t)u16_at(node + 2) << 16 | (uint64_t)u16_at(node + 4) << 32;
        /* The first key of a branch stands for minus infinity and is not used. */
        if (i > 0 && (tour->tree->flags & TREE_INTEGER)) {
            if (u16_at(node + 6) != 8)
                return wrong(walk, number, "has a key that is no number");
            tour->floor = u64_at(node + NODE_HEADER);
            if (!tour->any || tour->floor <= tour->last)
                return wrong(walk, number, "has keys out of order");
        }
        if (!walk_page(walk, tour, child, level + 1, nested))
            return false;
    }
    return true;
}

static bool walk_leaf(struct walk *walk, struct tour *tour, const unsigned char *page, int nested)
{
    size_t nodes = (size_t)(u16_at(page + 12) - PAGE_HEADER) / 2;
    uint64_t number = u64_at(page);
    tour->counted.leaves++;
    for (size_t i = 0; i < nodes; i++) {
        const unsigned char *node = page + u16_at(page + PAGE_HEADER + 2 * i);
        if (!check_key(walk, tour, number, node + NODE_HEADER, u16_at(node + 6)) ||
            !check_data(walk, tour, number, node, nested))
            return false;
    }
    return true;
}

static bool walk_page(struct walk *walk, struct tour *tour, uint64_t number, int level, int nested)
{
    /* The main tree's leaf is still being read while a named tree is walked: give that its own
     * half. */
    int slot = level + nested * (DEPTH_MAX / 2);
    if (walk->levels[slot] == NULL)
        walk->levels[slot] = xalloc(walk->page_size);
    unsigned char *page = walk->levels[slot];
    bool leaf = level + 1 == tour->tree->depth;
    if (!claim(walk, number, 1))
        return false;
    if (!read_at(walk->fd, page, walk->page_size, number * walk->page_size))
        return wrong(walk, number, "cannot be read");
    if (!check_layout(walk, number, page, leaf))
        return false;
    return leaf ? walk_leaf(walk, tour, page, nested) : walk_branch(walk, tour, page, level, nested);
}

static bool walk_tree(struct walk *walk, const struct tree *tree, bool is_free, int nested)
{
    struct tour tour = {.tree = tree, .is_free = is_free};
    if (tree->root == no_page)
        return (tree->depth == 0 && tree->entries == 0) || wrong(walk, 0, "names an empty tree");
    if (tree->depth < 1 || tree->depth > DEPTH_MAX / 2)
        return wrong(walk, tree->root, "is the root of a tree of a bad depth");
    if (!walk_page(walk, &tour, tree->root, 0, nested))
        return false;
    if (tour.counted.entries != tree->entries || tour.counted.leaves != tree->leaves ||
        tour.counted.branches != tree->branches || tour.counted.overflows != tree->overflows)
        return wrong(walk, tree->root, "is the root of a tree that lacks pages");
    return true;
}

/* Every page belongs to a tree or to the free list; one that belongs to neither means that a root
 * is stale. */
static bool check_coverage(struct walk *walk)
{
    for (uint64_t p = 2; p < walk->pages; p++)
        if (!(walk->seen[p >> 3] & (1u << (p & 7))))
            return wrong(walk, p, "belongs to nothing");
    return true;
}

int lmdb_file_check_pages(int fd, const char *path, uint64_t txnid, struct error *error)
{
    struct meta metas[2];
    struct stat st;
    int rc = metas_read(fd, path, metas, error);
    if (rc != 0)
        return rc;
    const struct meta *meta = &metas[txnid & 1];
    if (meta->txnid != txnid)
        return error_set(error, ERR_NOT_FOUND, "'%s': transaction %" PRIu64 " is gone", path, txnid);
    if (fstat(fd, &st) != 0)
        return error_set(error, ERR_IO, "cannot read '%s': %s", path, strerror(errno));
    if (meta->last_page >= (uint64_t)st.st_size / meta->free.pad)
        return error_set(error, ERR_CORRUPT, "'%s' is truncated", path);
    if (meta->free.flags != TREE_INTEGER || meta->main.flags != 0)
        return error_set(error, ERR_CORRUPT, "'%s' is not a journal of drover", path);

    struct walk walk = {.fd = fd, .page_size = meta->free.pad, .pages = meta->last_page + 1};
    walk.seen = xalloc(walk.pages / 8 + 1);
    bool good =
        walk_tree(&walk, &meta->main, false, 0) && walk_tree(&walk, &meta->free, true, 0) && check_coverage(&walk);
    for (size_t i = 0; i < DEPTH_MAX; i++)
        free(walk.levels[i]);
    free(walk.seen);
    if (good)
        return 0;
    return error_set(error, ERR_CORRUPT, "'%s' is damaged: page %" PRIu64 " %s - restore it from a copy", path,
                     walk.where, walk.wrong);
}

const char *network_filesystem(long type)
{
    static const struct {
        uint32_t type;
        const char *name;
    } table[] = {
        {0x00006969, "NFS"},      {0x0000517B, "SMB"},    {0xFF534D42, "CIFS"}, {0xFE534D42, "SMB2"},
        {0x0BD00BD0, "Lustre"},   {0x00C36400, "CephFS"}, {0x5346414F, "AFS"},  {0x6B414653, "AFS"},
        {0x47504653, "GPFS"},     {0x19830326, "BeeGFS"}, {0x0000564C, "NCP"},  {0x73757245, "Coda"},
        {0x20030528, "OrangeFS"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].type == (uint32_t)type)
            return table[i].name;
    return NULL;
}
