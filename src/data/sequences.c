/* Tasks for networks that read sequences, made from a seed: what they must remember, and for how long. */
#include <math.h>

#include "data/sequences.h"
#include "data/sets.h"

/* ---- Reber's grammar -------------------------------------------------------------------------- */

/* A. S. Reber, "Implicit learning of artificial grammars", 1967; the embedded form is of Hochreiter and Schmidhuber, "Long
 * short-term memory", 1997.  State s goes on by one of two symbols. */
static const struct { char symbol; int next; } reber_graph[6][2] = {
    {{'T', 1}, {'P', 2}}, {{'S', 1}, {'X', 3}}, {{'T', 2}, {'V', 4}}, {{'X', 2}, {'S', 5}}, {{'P', 3}, {'V', 5}}, {{'E', -1}, {'E', -1}},
};
static const char *const reber_names[] = {"", "B", "T", "P", "S", "X", "V", "E"};
static const char reber_symbols[] = "?BTPSXVE";

static bool reber_accepts(const char *s, size_t n)
{
    if (n < 2 || s[0] != 'B') return false;
    int state = 0;
    for (size_t i = 1; i < n; i++) {
        int k = s[i] == reber_graph[state][0].symbol ? 0 : s[i] == reber_graph[state][1].symbol ? 1 : -1;
        if (k < 0) return false;
        state = reber_graph[state][k].next;
        if (state < 0) return i + 1 == n;
    }
    return false;
}

bool pith_reber_valid(const int32_t *tokens, size_t n, bool embedded)
{
    char s[PITH_REBER_MAX];
    if (n > sizeof s) return false;
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 1 || tokens[i] > 7) return false;
        s[i] = reber_symbols[tokens[i]];
    }
    if (!embedded) return reber_accepts(s, n);
    return n >= 6 && s[0] == 'B' && (s[1] == 'T' || s[1] == 'P') && s[n - 2] == s[1] && s[n - 1] == 'E' && reber_accepts(s + 2, n - 4);
}

static int32_t reber_id(char symbol) { return (int32_t)(strchr(reber_symbols + 1, symbol) - reber_symbols); }

/* A string of the plain grammar of at most `max` symbols; 0: it became longer. */
static size_t reber_string(pith_rng *rng, int32_t *tokens, size_t max)
{
    size_t n = 0;
    tokens[n++] = reber_id('B');
    for (int state = 0; state >= 0;) {
        if (n == max) return 0;
        uint32_t k = pith_rng_below(rng, 2);
        tokens[n++] = reber_id(reber_graph[state][k].symbol);
        state = reber_graph[state][k].next;
    }
    return n;
}

/* Half of the strings are made invalid: one symbol becomes another; in embedded strings half of those times the symbol
 * before the last, which only memory of the second one can tell. */
static void make_reber(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    bool embedded = r->set->kind_of == PITH_SEQ_EMBEDDED_REBER;
    size_t length = ds->fields[0].n_values, n = 0, frame = embedded ? 2 : 0;
    int32_t *tokens = (int32_t *)ds->fields[0].data + i * length;
    pith_rng rng = pith_data_rng(r, i);
    while (n == 0) n = reber_string(&rng, tokens + frame, length - 2 * frame);
    if (embedded) {
        tokens[0] = reber_id('B');
        tokens[1] = tokens[n + 2] = reber_id(pith_rng_below(&rng, 2) ? 'T' : 'P');
        tokens[n + 3] = reber_id('E');
        n += 4;
    }
    for (size_t k = n; k < length; k++) tokens[k] = 0;
    bool valid = pith_rng_below(&rng, 2);
    if (!valid && embedded && pith_rng_below(&rng, 2)) {
        tokens[n - 2] = tokens[1] == reber_id('T') ? reber_id('P') : reber_id('T');
    } else if (!valid) {
        for (;;) {
            size_t at = 1 + pith_rng_below(&rng, (uint32_t)n - 2);
            int32_t was = tokens[at];
            tokens[at] = 2 + (int32_t)pith_rng_below(&rng, 5);
            if (!pith_reber_valid(tokens, n, embedded)) break;
            tokens[at] = was;
        }
    }
    ((uint8_t *)ds->fields[1].data)[i] = valid;
    ((int32_t *)ds->fields[2].data)[i] = (int32_t)n;
}

/* ---- associative recall ----------------------------------------------------------------------- */

/* Multi-query associative recall (Arora et al., "Zoology", arXiv:2312.04927): keys and their values, then among random
 * tokens each key again, followed by its value.  The gap to the question is log-uniform (theirs: a power
 * law, exponent 0.01 - 1); where one is asked already, uniform.  Keys 1..PITH_ASSOC_KEYS, values and random tokens above. */
static void make_assoc(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    size_t length = ds->fields[0].n_values, n_pairs = r->pairs, n_slots = length / 2 - n_pairs;
    int32_t *tokens = (int32_t *)ds->fields[0].data + i * length, *target = (int32_t *)ds->fields[1].data + i * length;
    pith_rng rng = pith_data_rng(r, i);
    for (size_t k = 0; k < length; k++) {
        tokens[k] = 1 + PITH_ASSOC_KEYS + (int32_t)pith_rng_below(&rng, PITH_ASSOC_KEYS);
        target[k] = -1;
    }
    for (size_t p = 0; p < n_pairs; p++) { /* values are the random tokens that are there; keys differ */
        bool taken = true;
        while (taken) {
            tokens[2 * p] = 1 + (int32_t)pith_rng_below(&rng, PITH_ASSOC_KEYS);
            taken = false;
            for (size_t q = 0; q < p; q++) taken = taken || tokens[2 * q] == tokens[2 * p];
        }
    }
    for (size_t p = 0; p < n_pairs; p++)
        for (;;) { /* inverse of the cumulative power law; a slot in use: draw again */
            double u = (double)pith_rng_uniform(&rng);
            size_t slot = PITH_MIN((size_t)(pow((double)n_slots + 1, u) - 1), n_slots - 1), at = 2 * (n_pairs + slot);
            if (tokens[at] <= PITH_ASSOC_KEYS) slot = pith_rng_below(&rng, (uint32_t)n_slots), at = 2 * (n_pairs + slot);
            if (tokens[at] <= PITH_ASSOC_KEYS) continue;
            tokens[at] = tokens[2 * p];
            target[at] = tokens[at + 1] = tokens[2 * p + 1];
            break;
        }
}

/* ---- the long-lag tasks of Hochreiter and Schmidhuber, 1997 ------------------------------------ */

/* Two marked numbers of the sequence, one in each half, are to be added: x [length, 2] number and mark, target their sum.
 * Always answering 1 has a squared error of 1/6. */
static void make_adding(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    size_t length = ds->fields[0].dims[0], half = length / 2;
    float *x = (float *)ds->fields[0].data + i * length * 2, sum = 0;
    pith_rng rng = pith_data_rng(r, i);
    size_t marks[2] = {pith_rng_below(&rng, (uint32_t)half), half + pith_rng_below(&rng, (uint32_t)(length - half))};
    for (size_t t = 0; t < length; t++) {
        x[2 * t] = pith_rng_uniform(&rng);
        x[2 * t + 1] = t == marks[0] || t == marks[1] ? 1 : 0;
        sum += x[2 * t] * x[2 * t + 1];
    }
    ((float *)ds->fields[1].data)[i] = sum;
}

/* X or Y at about a tenth and about half of the way, among four other symbols: which came in which order? */
static void make_order(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    size_t length = ds->fields[0].n_values, tenth = length / 10;
    int32_t *tokens = (int32_t *)ds->fields[0].data + i * length;
    pith_rng rng = pith_data_rng(r, i);
    for (size_t t = 0; t < length; t++) tokens[t] = 5 + (int32_t)pith_rng_below(&rng, 4);
    tokens[0] = 1;
    tokens[length - 1] = 2;
    uint32_t first = pith_rng_below(&rng, 2), second = pith_rng_below(&rng, 2);
    tokens[tenth + pith_rng_below(&rng, (uint32_t)tenth)] = 3 + (int32_t)first;
    tokens[5 * tenth + pith_rng_below(&rng, (uint32_t)tenth)] = 3 + (int32_t)second;
    ((uint8_t *)ds->fields[1].data)[i] = (uint8_t)(2 * first + second);
}
static const char *const order_names[] = {"", "begin", "end", "X", "Y", "a", "b", "c", "d"};
static const char *const order_classes[] = {"XX", "XY", "YX", "YY"};

/* ---- sequences whose next symbol is asked ------------------------------------------------------ */

/* target[t] is the token that follows, where it can be known; -1 elsewhere. */

/* a^n b^n: after the first b all is determined (Gers and Schmidhuber, 2001). */
static void make_count(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    size_t length = ds->fields[0].n_values;
    int32_t *tokens = (int32_t *)ds->fields[0].data + i * length, *target = (int32_t *)ds->fields[1].data + i * length;
    pith_rng rng = pith_data_rng(r, i);
    size_t n = 1 + pith_rng_below(&rng, (uint32_t)(length - 1) / 2);
    for (size_t t = 0; t < length; t++) tokens[t] = t < n ? 1 : t < 2 * n ? 2 : t == 2 * n ? 3 : 0;
    for (size_t t = 0; t < length; t++) target[t] = t >= n && t < 2 * n ? tokens[t + 1] : -1;
}
static const char *const count_names[] = {"", "a", "b", "end"};

/* PITH_COPY_SYMBOLS symbols, blanks (0), a mark (9), and the symbols again. */
static void make_copy(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    const size_t n = PITH_COPY_SYMBOLS;
    size_t length = ds->fields[0].n_values, mark = length - n - 1;
    int32_t *tokens = (int32_t *)ds->fields[0].data + i * length, *target = (int32_t *)ds->fields[1].data + i * length;
    pith_rng rng = pith_data_rng(r, i);
    for (size_t t = 0; t < length; t++) {
        tokens[t] = t < n ? 1 + (int32_t)pith_rng_below(&rng, 8) : t == mark ? 9 : t > mark ? tokens[t - mark - 1] : 0;
        target[t] = -1;
    }
    for (size_t t = mark; t + 1 < length; t++) target[t] = tokens[t + 1];
}

/* Letters (1..26), a mark (27), and the letters reversed or sorted; 2 to (length - 1) / 2 letters. */
static void make_mapped(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    size_t length = ds->fields[0].n_values, most = (length - 1) / 2;
    int32_t *tokens = (int32_t *)ds->fields[0].data + i * length, *target = (int32_t *)ds->fields[1].data + i * length;
    pith_rng rng = pith_data_rng(r, i);
    size_t n = 2 + pith_rng_below(&rng, (uint32_t)most - 1);
    for (size_t t = 0; t < n; t++) tokens[t] = 1 + (int32_t)pith_rng_below(&rng, 26);
    tokens[n] = 27;
    int32_t *out = tokens + n + 1;
    for (size_t t = 0; t < n; t++) out[t] = tokens[n - 1 - t];
    if (r->set->kind_of == PITH_SEQ_SORT)
        for (size_t a = 1; a < n; a++)
            for (size_t b = a; b > 0 && out[b - 1] > out[b]; b--) {
                int32_t swap = out[b];
                out[b] = out[b - 1];
                out[b - 1] = swap;
            }
    for (size_t t = 0; t < length; t++) {
        if (t > 2 * n) tokens[t] = 0;
        target[t] = t >= n && t < 2 * n ? tokens[t + 1] : -1;
    }
}

/* Each symbol's tag is whether the symbols two before and two after it differ: it takes both directions. */
static void make_tags(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    size_t length = ds->fields[0].n_values;
    int32_t *tokens = (int32_t *)ds->fields[0].data + i * length, *target = (int32_t *)ds->fields[1].data + i * length;
    pith_rng rng = pith_data_rng(r, i);
    for (size_t t = 0; t < length; t++) tokens[t] = 1 + (int32_t)pith_rng_below(&rng, 2);
    for (size_t t = 0; t < length; t++) target[t] = t < 2 || t + 2 >= length ? -1 : tokens[t - 2] != tokens[t + 2];
}

/* Letters (1..4), and between them marks (5 and 6), as at both ends: each letter's tag is which marks are nearest to it on both
 * sides, however far they are, 0..3; a sum of what each side tells gives it, as a linear read-out needs. */
static void make_marks(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    size_t length = ds->fields[0].n_values;
    int32_t *tokens = (int32_t *)ds->fields[0].data + i * length, *target = (int32_t *)ds->fields[1].data + i * length;
    pith_rng rng = pith_data_rng(r, i);
    size_t left = 0;
    for (size_t t = 0; t < length; t++) {
        bool mark = t == 0 || t + 1 == length || pith_rng_below(&rng, 8) == 0;
        tokens[t] = mark ? 5 + (int32_t)pith_rng_below(&rng, 2) : 1 + (int32_t)pith_rng_below(&rng, 4);
        target[t] = -1;
        if (!mark) continue;
        for (size_t k = left + 1; k < t; k++) target[k] = 2 * (tokens[left] - 5) + tokens[t] - 5;
        left = t;
    }
}
static const char *const mark_names[] = {"", "a", "b", "c", "d", "+", "-"};

/* The digit that is written. */
static void make_strokes(const pith_data_request *r, pith_dataset *ds, size_t i)
{
    size_t length = ds->fields[0].dims[0];
    pith_rng rng = pith_data_rng(r, i);
    ((uint8_t *)ds->fields[1].data)[i] = (uint8_t)pith_strokes_make(&rng, (float *)ds->fields[0].data + i * length * 3, length);
}
static const char *const digit_names[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

/* ---- the table -------------------------------------------------------------------------------- */

typedef void make_fn(const pith_data_request *r, pith_dataset *ds, size_t i);

typedef struct sequence_kind {
    make_fn *make;
    size_t length, shortest, longest;          /* usual, and what makes sense */
    enum { LABEL, TARGETS, SUM } answer;
    const char *const *names;                  /* of the tokens */
    size_t n_names;
    const char *const *classes;
    size_t n_classes;
    size_t n_inputs;                           /* numbers of a step; 0: tokens */
} sequence_kind;

static const char *const validity[] = {"invalid", "valid"};

static const sequence_kind kinds[] = {
    [PITH_SEQ_REBER] = {make_reber, 32, 12, PITH_REBER_MAX, .answer = LABEL, .names = reber_names, .n_names = PITH_COUNT(reber_names), .classes = validity, .n_classes = 2},
    [PITH_SEQ_EMBEDDED_REBER] = {make_reber, 36, 16, PITH_REBER_MAX, .answer = LABEL, .names = reber_names, .n_names = PITH_COUNT(reber_names), .classes = validity, .n_classes = 2},
    [PITH_SEQ_ASSOC] = {make_assoc, 128, 8, 1 << 16, .answer = TARGETS},
    [PITH_SEQ_ADDING] = {make_adding, 100, 4, 1 << 16, .answer = SUM, .n_inputs = 2},
    [PITH_SEQ_ORDER] = {make_order, 100, 20, 1 << 16, .answer = LABEL, .names = order_names, .n_names = PITH_COUNT(order_names), .classes = order_classes, .n_classes = PITH_COUNT(order_classes)},
    [PITH_SEQ_COUNT] = {make_count, 41, 3, 1 << 16, .answer = TARGETS, .names = count_names, .n_names = PITH_COUNT(count_names)},
    [PITH_SEQ_COPY] = {make_copy, 121, 2 * PITH_COPY_SYMBOLS + 1, 1 << 16, .answer = TARGETS},
    [PITH_SEQ_REVERSE] = {make_mapped, 21, 5, 1 << 10, .answer = TARGETS},
    [PITH_SEQ_SORT] = {make_mapped, 21, 5, 1 << 10, .answer = TARGETS},
    [PITH_SEQ_TAGS] = {make_tags, 50, 5, 1 << 16, .answer = TARGETS},
    [PITH_SEQ_MARKS] = {make_marks, 50, 5, 1 << 16, .answer = TARGETS, .names = mark_names, .n_names = PITH_COUNT(mark_names)},
    [PITH_SEQ_STROKES] = {make_strokes, 40, 10, 1 << 10, .answer = LABEL, .classes = digit_names, .n_classes = PITH_COUNT(digit_names), .n_inputs = 3},
};

static void fill(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    const sequence_kind *kind = user;
    kind->make(r, ds, i);
}

pith_status pith_sequences_open(const pith_data_request *asked, pith_dataset *ds)
{
    pith_data_request r = *asked;
    const sequence_kind *kind = &kinds[r.set->kind_of];
    size_t length = r.length ? r.length : kind->length;
    if (length < kind->shortest || length > kind->longest)
        return pith_fail(r.ctx, PITH_E_ARGUMENT, "%s: sequences of %zu; %zu to %zu can be made", ds->name, length, kind->shortest, kind->longest);
    if (r.set->kind_of == PITH_SEQ_ASSOC) {
        if (!r.pairs) r.pairs = PITH_MIN(length / 8, 8);
        if (r.pairs > length / 4 || r.pairs > PITH_ASSOC_KEYS)
            return pith_fail(r.ctx, PITH_E_ARGUMENT, "%s: %zu pairs in %zu tokens; a quarter of the length and %d are the most", ds->name, r.pairs, length, PITH_ASSOC_KEYS);
    }
    pith_field *input = kind->n_inputs ? pith_dataset_add(ds, "input", PITH_FIELD_F32, PITH_FIELD_SHAPE(length, kind->n_inputs))
                                       : pith_dataset_add(ds, "tokens", PITH_FIELD_I32, PITH_FIELD_SHAPE(length));
    if (!input) return PITH_E_MEMORY;
    input->names = kind->names;
    input->n_names = kind->n_names;
    pith_field *answer = kind->answer == SUM ? pith_dataset_add(ds, "target", PITH_FIELD_F32, 0, NULL)
                       : kind->answer == LABEL ? pith_dataset_add(ds, "label", PITH_FIELD_U8, 0, NULL)
                                               : pith_dataset_add(ds, "target", PITH_FIELD_I32, PITH_FIELD_SHAPE(length));
    if (!answer) return PITH_E_MEMORY;
    answer->names = kind->classes;
    answer->n_names = kind->n_classes;
    if (kind->make == make_reber && !pith_dataset_add(ds, "length", PITH_FIELD_I32, 0, NULL)) return PITH_E_MEMORY;
    return pith_data_fill(&r, ds, fill, (void *)(uintptr_t)kind);
}
