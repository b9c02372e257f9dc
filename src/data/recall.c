/* Texts to remember: facts, "key: value", scattered among other sentences and asked for at the end (recall); one number
 * in a long text (passkey). */
#include "data/sets.h"

static const char *const first_words[] = {"amber", "ancient", "bitter", "bright", "broken", "calm", "clever", "copper", "crimson", "distant", "eager", "early", "empty", "faded", "fierce", "gentle",
                                          "golden", "hidden", "hollow", "humble", "icy", "jolly", "keen", "lively", "lonely", "lucky", "marble", "mellow", "narrow", "noble", "pale", "quiet"};
static const char *const second_words[] = {"anchor", "arrow", "badger", "basket", "beacon", "bridge", "candle", "canyon", "castle", "comet", "falcon", "feather", "forest", "garden", "hammer", "harbour",
                                           "island", "kettle", "ladder", "lantern", "meadow", "mirror", "orchard", "pebble", "pencil", "rabbit", "ribbon", "saddle", "shadow", "spider", "temple", "window"};
static const char *const subjects[] = {"The old clerk", "A traveller", "My neighbour", "The night guard", "Her brother", "The gardener", "A young painter", "The miller", "Our teacher", "The captain"};
static const char *const verbs[] = {"walked to", "looked at", "talked about", "waited for", "remembered", "wrote of", "came back from", "drew", "asked for", "dreamt of"};
static const char *const objects[] = {"the river", "a long winter", "the market", "an open door", "the last train", "a cup of tea", "the harvest", "some letters", "the north wind", "a small boat"};
static const char *const endings[] = {" in the morning", " with a smile", " before the rain", " once more", " without a word", " for an hour", " near the wall", ""};

enum { USUAL_LENGTH = 512, USUAL_PAIRS = 4, MAX_PAIRS = 256, ROOM_PER_PAIR = 64, PASSKEY_LENGTH = 1024, PASSKEY_SHORTEST = 64 };

/* A text being written; what does not fit is not written at all. */
typedef struct writer {
    char *text;
    size_t len, cap;
} writer;

static bool PITH_PRINTF(2, 3) write_all(writer *w, const char *format, ...)
{
    char line[160];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof line || (size_t)n > w->cap - w->len) return false;
    memcpy(w->text + w->len, line, (size_t)n);
    w->len += (size_t)n;
    return true;
}

#define PICK(words) words[pith_rng_below(rng, PITH_COUNT(words))]

static bool write_filler(writer *w, pith_rng *rng)
{
    const char *a = PICK(subjects), *b = PICK(verbs), *c = PICK(objects), *d = PICK(endings);
    return write_all(w, "%s %s %s%s. ", a, b, c, d);
}

typedef struct pair {
    uint32_t key, value; /* key: 32 x 32 words; value: four digits */
} pair;

static void key_words(uint32_t key, const char **a, const char **b)
{
    *a = first_words[key / PITH_COUNT(second_words)];
    *b = second_words[key % PITH_COUNT(second_words)];
}

/* Facts at random places among sentences, then each key with '?' and its value, in another order.  answer [pairs, 2]: where
 * each value that is asked begins, and its bytes. */
static void make_recall(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    (void)user;
    pith_rng stream = pith_data_rng(r, i), *rng = &stream;
    size_t length = ds->fields[0].n_values, n = r->pairs;
    pair pairs[MAX_PAIRS];
    for (size_t p = 0; p < n; p++) {
        bool taken = true;
        while (taken) {
            pairs[p].key = pith_rng_below(rng, PITH_COUNT(first_words) * PITH_COUNT(second_words));
            taken = false;
            for (size_t q = 0; q < p; q++) taken = taken || pairs[q].key == pairs[p].key;
        }
        pairs[p].value = 1000 + pith_rng_below(rng, 9000);
    }
    const char *a, *b;
    size_t facts = 0, questions = 0;
    for (size_t p = 0; p < n; p++) {
        key_words(pairs[p].key, &a, &b);
        facts += strlen(a) + strlen(b) + strlen(" : 1234. ");
        questions += strlen(a) + strlen(b) + strlen(" ? 1234\n");
    }
    /* The middle is as long as leaves room for the questions; a fact comes when its share of the middle is reached. */
    writer w = {.text = (char *)ds->fields[0].data + i * length, .cap = length - questions - 1};
    for (size_t p = 0; p < n; p++) {
        size_t spare = w.cap - w.len - facts, goal = w.len + (size_t)pith_rng_below(rng, (uint32_t)(2 * spare / (n - p + 1)) + 1);
        size_t cap = w.cap;
        w.cap = PITH_MIN(goal, cap - facts);
        while (w.len < w.cap && write_filler(&w, rng)) { }
        w.cap = cap;
        key_words(pairs[p].key, &a, &b);
        write_all(&w, "%s %s: %u. ", a, b, pairs[p].value);
        facts -= strlen(a) + strlen(b) + strlen(" : 1234. ");
    }
    while (write_filler(&w, rng)) { }
    w.text[w.len++] = '\n';
    w.cap = length;
    int32_t *answer = (int32_t *)ds->fields[1].data + i * n * 2;
    for (size_t p = 0; p < n; p++) {
        size_t k = p + pith_rng_below(rng, (uint32_t)(n - p));
        pair swap = pairs[p];
        pairs[p] = pairs[k];
        pairs[k] = swap;
        key_words(pairs[p].key, &a, &b);
        write_all(&w, "%s %s? ", a, b);
        answer[2 * p] = (int32_t)w.len;
        answer[2 * p + 1] = 4;
        write_all(&w, "%u\n", pairs[p].value);
    }
}

/* "The passkey is 12345." at a random place among sentences, and at the end "The passkey is 12345" to be completed
 * (Mohtashami and Jaggi, "Landmark attention", arXiv:2305.16300, with sentences of our own). */
static void make_passkey(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    (void)user;
    static const char told[] = "The passkey is 12345. ", asked[] = "\nThe passkey is 12345\n";
    pith_rng stream = pith_data_rng(r, i), *rng = &stream;
    size_t length = ds->fields[0].n_values, most = length - (sizeof asked - 1);
    uint32_t key = 10000 + pith_rng_below(rng, 90000);
    writer w = {.text = (char *)ds->fields[0].data + i * length};
    w.cap = pith_rng_below(rng, (uint32_t)(most - (sizeof told - 1)) + 1);
    while (write_filler(&w, rng)) { }
    w.cap = most;
    write_all(&w, "The passkey is %u. ", key);
    while (write_filler(&w, rng)) { }
    w.cap = length;
    write_all(&w, "\nThe passkey is ");
    int32_t *answer = (int32_t *)ds->fields[1].data + i * 2;
    answer[0] = (int32_t)w.len;
    answer[1] = 5;
    write_all(&w, "%u\n", key);
}

pith_status pith_passkey_open(const pith_data_request *r, pith_dataset *ds)
{
    size_t length = r->length ? r->length : PASSKEY_LENGTH;
    if (length < PASSKEY_SHORTEST) return pith_fail(r->ctx, PITH_E_ARGUMENT, "%s: texts of %zu bytes; at least %d", ds->name, length, PASSKEY_SHORTEST);
    if (!pith_dataset_add(ds, "text", PITH_FIELD_U8, PITH_FIELD_SHAPE(length))) return PITH_E_MEMORY;
    if (!pith_dataset_add(ds, "answer", PITH_FIELD_I32, PITH_FIELD_SHAPE(1, 2))) return PITH_E_MEMORY;
    return pith_data_fill(r, ds, make_passkey, NULL);
}

pith_status pith_recall_open(const pith_data_request *asked, pith_dataset *ds)
{
    pith_data_request r = *asked;
    if (!r.pairs) r.pairs = USUAL_PAIRS;
    if (!r.length) r.length = PITH_MAX((size_t)USUAL_LENGTH, r.pairs * ROOM_PER_PAIR * 2);
    if (r.pairs > MAX_PAIRS || r.length < r.pairs * ROOM_PER_PAIR)
        return pith_fail(r.ctx, PITH_E_ARGUMENT, "%s: %zu pairs in %zu bytes; up to %d pairs and %d bytes for each", ds->name, r.pairs, r.length, MAX_PAIRS, ROOM_PER_PAIR);
    if (!pith_dataset_add(ds, "text", PITH_FIELD_U8, PITH_FIELD_SHAPE(r.length))) return PITH_E_MEMORY;
    if (!pith_dataset_add(ds, "answer", PITH_FIELD_I32, PITH_FIELD_SHAPE(r.pairs, 2))) return PITH_E_MEMORY;
    return pith_data_fill(&r, ds, make_recall, NULL);
}
