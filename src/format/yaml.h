/* YAML read into a struct by a table of its keys: whatever is unknown, missing, of another type or out of range is
 * an error with file, line, column and what was expected.  Parsed by libyaml (YAML 1.1), which allocates for itself;
 * texts are limited to PITH_YAML_MAX_BYTES.  Anchors, aliases and tags are refused: these files need none. */
#ifndef PITH_YAML_H
#define PITH_YAML_H

#include "base/base.h"

#define PITH_YAML_MAX_BYTES ((size_t)1 << 20)
#define PITH_YAML_MAX_DEPTH 32

typedef enum pith_yaml_kind { PITH_YAML_SCALAR, PITH_YAML_LIST, PITH_YAML_MAP } pith_yaml_kind;

/* A value and where it began (from 1). */
typedef struct pith_yaml {
    pith_yaml_kind kind;
    size_t line, column;
    const char *file;              /* what messages call the text */
    const char *text;              /* SCALAR, NUL-terminated */
    bool quoted;                   /* SCALAR: a text, even where it looks like a number */
    size_t n;                      /* LIST: items; MAP: pairs */
    struct pith_yaml **items;      /* [n] values */
    struct pith_yaml **keys;       /* MAP: [n] scalars, no two equal */
} pith_yaml;

/** Parse text [len], one document.  All is the arena's.  `file` is copied.
 *  @return PITH_E_FORMAT with file, line, column; PITH_E_LIMIT, PITH_E_MEMORY */
pith_status pith_yaml_parse(pith_arena *arena, pith_ctx *ctx, const char *file, const char *text, size_t len, pith_yaml **root);
/** The value of a map's key, NULL when there is none or `map` is none. */
pith_yaml *pith_yaml_get(const pith_yaml *map, const char *key);
/** PITH_E_FORMAT with "file:line:column: " before the sentence. */
pith_status pith_yaml_fail(pith_ctx *ctx, const pith_yaml *at, const char *format, ...) PITH_PRINTF(3, 4);

/* What a value is, and the C type it is stored as. */
typedef enum pith_key_type {
    PITH_KEY_FLAG,               /* bool: true or false */
    PITH_KEY_COUNT,              /* uint64_t: a whole number; 2k and 3M are 2,000 and 3,000,000 */
    PITH_KEY_STEPS,              /* the same, of training: a budget scales it */
    PITH_KEY_NUMBER,             /* double */
    PITH_KEY_TEXT,               /* const char *, the arena's; NULL when not given */
    PITH_KEY_CHOICE,             /* int: index into `choices` */
    PITH_KEY_COUNTS,             /* pith_counts: a list */
    PITH_KEY_NUMBERS,            /* pith_numbers */
    PITH_KEY_NAMES,              /* pith_names: a list of texts */
    PITH_KEY_PAIRS,              /* pith_pairs: a map of names to texts */
    PITH_KEY_GROUP,              /* a struct by `fields`, in place */
    PITH_KEY_NODE                /* pith_yaml *: as it is, for who knows its fields */
} pith_key_type;

typedef struct pith_counts {
    size_t n;
    uint64_t *items;
} pith_counts;
typedef struct pith_numbers {
    size_t n;
    double *items;
} pith_numbers;
typedef struct pith_names {
    size_t n;
    const char **items;
} pith_names;
typedef struct pith_pair {
    const char *name, *text;
    const pith_yaml *at;           /* of the name */
} pith_pair;
typedef struct pith_pairs {
    size_t n;
    pith_pair *items;
} pith_pairs;

typedef struct pith_key {
    const char *name;              /* NULL ends the table */
    pith_key_type type;
    size_t offset;                 /* in the struct that is filled */
    bool required;
    double min, max;               /* COUNT, STEPS, NUMBER and lists of them: the range allowed; both 0: any */
    const char *choices;           /* CHOICE: "sgd|adamw" */
    const struct pith_key *fields; /* GROUP */
    const char *help;              /* one sentence */
} pith_key;

/** Fill `dest` from a map.  What is not given stays as it is, so that defaults are set before, and overrides filled
 *  after (partial: nothing is required).  @return PITH_E_FORMAT, PITH_E_MEMORY */
pith_status pith_yaml_fill(pith_arena *arena, pith_ctx *ctx, const pith_yaml *map, const pith_key *fields, bool partial, void *dest);

#endif
