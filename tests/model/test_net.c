/* What is common to all networks: making, settings, files that do not fit, listening and replacing. */
#include "net_case.h"

#include "format/safetensors.h"

#define TINY "{\"in\": 3, \"hidden\": [4], \"out\": 2}"

static void test_kinds(void **state)
{
    (void)state;
    const pith_net_info *info;
    for (size_t i = 0; (info = pith_net_infos(i)); i++) {
        net_bed b = net_bed_open(info->name, NULL, PITH_NET_BLANK, 1); /* the defaults are possible */
        assert_string_equal(pith_net_kind_name(b.net), info->name);
        assert_true(strlen(info->summary) > 0 && strlen(info->paper) > 0);
        net_bed_close(&b);
        for (const pith_net_preset *p = info->presets; p && p->name; p++) {
            b = net_bed_open(p->name, NULL, PITH_NET_BLANK, 1);
            assert_string_equal(pith_net_kind_name(b.net), info->name);
            assert_true(pith_net_n_values(b.net) > 0);
            net_bed_close(&b);
        }
    }
}

static void test_settings(void **state)
{
    (void)state;
    static const struct { const char *kind, *settings, *says; } wrong[] = {
        {"resnet2000", NULL, "resnet20"},                                      /* what there is */
        {"mlp", "{\"width\": 3}", "hidden"},
        {"mlp", "{\"in\": 0}", "1 to"},
        {"mlp", "{\"in\": 2.5}", "whole"},
        {"mlp", "{\"in\": \"3\"}", "whole"},
        {"mlp", "{\"hidden\": 3}", "list"},
        {"mlp", "{\"hidden\": [3, -1]}", "list"},
        {"mlp", "{\"hidden\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", "16"},
        {"mlp", "{\"activation\": \"rel\"}", "relu|"},
        {"mlp", "{\"dropout\": 1}", "0.99"},
        {"vit", "{\"heads\": 3}", "multiple"},
        {"lenet", "{\"size\": 10}", "too small"},
    };
    pith_ctx *ctx = test_ctx(1);
    for (size_t i = 0; i < PITH_COUNT(wrong); i++) {
        pith_tape *tape;
        pith_net *net;
        assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
        assert_int_equal(pith_net_new(tape, wrong[i].kind, wrong[i].settings, 1, &net), PITH_E_ARGUMENT);
        if (!strstr(pith_error(ctx), wrong[i].says)) fail_msg("%s: %s", wrong[i].settings, pith_error(ctx));
        pith_tape_free(tape);
    }
    pith_tape *tape;
    pith_net *net;
    assert_ok(ctx, pith_tape_new(ctx, 1, &tape));
    assert_int_equal(pith_net_new(tape, "mlp", "{\"in\": 3", 1, &net), PITH_E_CORRUPT);
    assert_int_equal(pith_net_new(tape, "mlp", "{\"in\": 3, \"in\": 4}", 1, &net), PITH_E_CORRUPT);
    pith_tape_free(tape);
    pith_ctx_free(ctx);
    net_bed b = net_bed_open("mlp", TINY, 1, 1);
    assert_string_equal(pith_net_settings(b.net), "{\"kind\": \"mlp\", \"in\": 3, \"hidden\": [4], \"out\": 2, \"activation\": \"relu\", \"dropout\": 0}");
    net_bed_close(&b);
}

/* Parameters follow from the seed and their names, not from what else there is. */
static void test_seed(void **state)
{
    (void)state;
    net_bed a = net_bed_open("mlp", TINY, 1, 1), b = net_bed_open("mlp", TINY, 2, 1), c = net_bed_open("mlp", "{\"in\": 3, \"hidden\": [4, 5]}", 1, 1);
    pith_var *w = pith_net_param(a.net, "layers.0.weight"), *other = pith_net_param(b.net, "layers.0.weight"), *same = pith_net_param(c.net, "layers.0.weight");
    assert_memory_equal(w->data, same->data, w->count * sizeof(float));
    assert_memory_not_equal(w->data, other->data, w->count * sizeof(float));
    for (size_t i = 0; i < w->count; i++) assert_true(fabsf(w->data[i]) <= 1 / sqrtf(3));
    assert_null(pith_net_param(a.net, "layers.9.weight"));
    net_bed_close(&a);
    net_bed_close(&b);
    net_bed_close(&c);
}

static const char *scratch(void)
{
    static char path[64];
    snprintf(path, sizeof path, "net_common.%ld.safetensors", (long)getpid());
    return path;
}

static void write_file(pith_ctx *ctx, const char *prefix, pith_dtype dtype, size_t rows, float value, const char *meta)
{
    pith_safetensors_writer *w;
    assert_ok(ctx, pith_safetensors_writer_open(ctx, scratch(), &w));
    static const char *const names[] = {"layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias", "bn.num_batches_tracked", "other"};
    const size_t dims[][2] = {{rows, 3}, {4}, {2, 4}, {2}, {1}, {1}};
    const int n_dims[] = {2, 1, 2, 1, 1, 1};
    uint16_t half[16];
    float data[16];
    for (size_t i = 0; i < 16; i++) {
        data[i] = value + (float)i;
        half[i] = dtype == PITH_F16 ? pith_f32_to_f16(data[i]) : pith_f32_to_bf16(data[i]);
    }
    if (meta) assert_ok(ctx, pith_safetensors_put(w, "pith.net", meta));
    for (int i = 0; i < 6; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", prefix, names[i]);
        assert_ok(ctx, pith_safetensors_declare(w, name, dtype, n_dims[i], dims[i]));
    }
    for (int i = 0; i < 6; i++) {
        size_t n = dims[i][0] * (n_dims[i] > 1 ? dims[i][1] : 1);
        assert_ok(ctx, pith_safetensors_data(w, dtype == PITH_F32 ? (void *)data : (void *)half, n * (dtype == PITH_F32 ? 4 : 2)));
    }
    assert_ok(ctx, pith_safetensors_writer_close(w));
}

static void test_load(void **state)
{
    (void)state;
    net_bed b = net_bed_open("mlp", TINY, 1, 1);
    pith_var *w = pith_net_param(b.net, "layers.0.weight");
    float before = w->data[1];
    write_file(b.ctx, "model.", PITH_F32, 4, 0.5f, NULL);
    assert_int_equal(pith_net_load(b.net, scratch(), NULL), PITH_E_FORMAT);
    assert_non_null(strstr(pith_error(b.ctx), "layers.0.weight"));
    assert_ok(b.ctx, pith_net_load(b.net, scratch(), "model."));
    assert_float_equal(w->data[1], 1.5f, 0);
    write_file(b.ctx, "", PITH_BF16, 4, 2, NULL);
    assert_ok(b.ctx, pith_net_load(b.net, scratch(), NULL));
    assert_float_equal(w->data[1], 3, 0);
    write_file(b.ctx, "", PITH_F16, 5, 2, NULL);
    assert_int_equal(pith_net_load(b.net, scratch(), NULL), PITH_E_FORMAT);
    assert_non_null(strstr(pith_error(b.ctx), "[5, 3]"));
    write_file(b.ctx, "", PITH_F32, 4, INFINITY, NULL);
    assert_int_equal(pith_net_load(b.net, scratch(), NULL), PITH_E_NONFINITE);
    assert_float_equal(w->data[1], 3, 0); /* nothing was changed */
    assert_true(fabsf(before) < 1);
    /* files without settings, with others, damaged ones */
    pith_net *net;
    assert_int_equal(pith_net_open(b.tape, scratch(), &net), PITH_E_FORMAT);
    write_file(b.ctx, "", PITH_F32, 4, 1, "{\"in\": 3}");
    assert_int_equal(pith_net_open(b.tape, scratch(), &net), PITH_E_FORMAT);
    write_file(b.ctx, "", PITH_F32, 4, 1, "{\"kind\": \"mlp\", \"in\": 3, \"hidden\": [7], \"out\": 2}");
    assert_int_equal(pith_net_open(b.tape, scratch(), &net), PITH_E_FORMAT);
    write_file(b.ctx, "", PITH_F32, 4, 1, "{\"kind\": \"mlp\", \"in\": -3}");
    assert_int_equal(pith_net_open(b.tape, scratch(), &net), PITH_E_ARGUMENT);
    assert_non_null(strstr(pith_error(b.ctx), scratch()));
    write_file(b.ctx, "", PITH_F32, 4, 1, "not JSON");
    assert_int_equal(pith_net_open(b.tape, scratch(), &net), PITH_E_CORRUPT);
    write_file(b.ctx, "", PITH_F32, 4, 1, NULL);
    assert_int_equal(truncate(scratch(), 300), 0);
    assert_int_equal(pith_net_load(b.net, scratch(), NULL), PITH_E_CORRUPT);
    unlink(scratch());
    assert_int_equal(pith_net_load(b.net, scratch(), NULL), PITH_E_IO);
    assert_int_equal(pith_net_save(b.net, "no/such/folder/net.safetensors"), PITH_E_IO);
    net_bed_close(&b);
}

typedef struct heard {
    char text[512];
    const char *at;               /* the layer whose result is doubled */
} heard;

static pith_var *hear(void *user, const char *layer, pith_net_side side, pith_var *x)
{
    heard *h = user;
    size_t n = strlen(h->text);
    snprintf(h->text + n, sizeof h->text - n, "%s%c[%zu] ", layer, side == PITH_NET_BEFORE ? '<' : '>', x->dims[1]);
    return h->at && side == PITH_NET_AFTER && strcmp(layer, h->at) == 0 ? pith_var_scale(x, 2) : x;
}

static pith_var *silence(void *user, const char *layer, pith_net_side side, pith_var *x)
{
    (void)user;
    return side == PITH_NET_AFTER && strcmp(layer, "layers.1") == 0 ? NULL : x;
}

static pith_var *without_weights(void *user, const char *name, pith_var *param)
{
    (void)user;
    return strcmp(name, "layers.1.weight") == 0 ? pith_var_scale(param, 0) : param;
}

static pith_var *turned(void *user, const char *name, pith_var *param)
{
    (void)user;
    return strcmp(name, "layers.1.weight") == 0 ? pith_var_transpose(param, 0, 1) : param;
}

static void test_hooks(void **state)
{
    (void)state;
    net_bed b = net_bed_open("mlp", TINY, 1, 1);
    const float x[] = {1, 2, 3};
    heard h = {0};
    assert_int_equal(pith_net_n_hidden(b.net), 1);
    assert_string_equal(pith_net_hidden_name(b.net, 0), "hidden0");
    pith_tape_step(b.tape, 1);
    pith_var *in = pith_tape_input(b.tape, x, PITH_DIMS(1, 3)), *plain = pith_net_forward(b.net, in), *hidden = pith_net_hidden(b.net, "hidden0");
    assert_non_null(plain);
    assert_int_equal(hidden->dims[1], 4);
    assert_null(pith_net_hidden(b.net, "hidden1"));
    pith_net_tap(b.net, hear, &h);
    assert_non_null(pith_net_forward(b.net, in));
    assert_string_equal(h.text, "layers.0<[3] layers.0>[4] hidden0>[4] layers.1<[4] layers.1>[2] ");
    h = (heard){.at = "layers.1"};
    pith_var *doubled = pith_net_forward(b.net, in);
    for (size_t i = 0; i < 2; i++) assert_float_equal(doubled->data[i], 2 * plain->data[i], 0);
    pith_net_tap(b.net, NULL, NULL);
    pith_net_replace(b.net, without_weights, NULL);
    pith_var *bare = pith_net_forward(b.net, in);
    assert_memory_equal(bare->data, pith_net_param(b.net, "layers.1.bias")->data, 2 * sizeof(float));
    pith_net_replace(b.net, NULL, NULL);
    pith_net_tap(b.net, silence, NULL);
    assert_null(pith_net_forward(b.net, in));
    assert_int_equal(pith_tape_status(b.tape), PITH_E_ARGUMENT);
    pith_net_tap(b.net, NULL, NULL);
    pith_tape_step(b.tape, 2);
    assert_null(pith_net_run(b.net, &(pith_net_input){.x = NULL}));
    assert_non_null(strstr(pith_error(b.ctx), "not given"));
    pith_tape_step(b.tape, 3);
    in = pith_tape_input(b.tape, x, PITH_DIMS(1, 3));
    pith_net_replace(b.net, turned, NULL);
    assert_null(pith_net_forward(b.net, in));
    assert_int_equal(pith_tape_status(b.tape), PITH_E_SHAPE);
    assert_non_null(strstr(pith_error(b.ctx), "layers.1.weight [2, 4]"));
    net_bed_close(&b);
}

/* A frozen network: no state moves, nothing is dropped, and gradients pass. */
static void test_freeze(void **state)
{
    (void)state;
    net_bed b = net_bed_open("vgg", "{\"channels\": 1, \"widths\": [2], \"classes\": 2}", 1, 1);
    size_t n, dims[] = {2, 1, 4, 4};
    const pith_net_buffer *buffers = pith_net_buffers(b.net, &n);
    assert_int_equal(n, 2);
    assert_string_equal(buffers[1].name, "features.1.running_var");
    pith_var *x = pith_tape_param(b.tape, "x", 4, dims);
    for (size_t i = 0; i < x->count; i++) x->data[i] = (float)(i * i % 7);
    pith_net_freeze(b.net, true);
    pith_tape_step(b.tape, 1);
    assert_ok(b.ctx, pith_backward(b.tape, pith_var_sum(pith_var_square(pith_net_forward(b.net, x)), PITH_ALL_AXES), 0));
    assert_non_null(x->grad);
    assert_float_equal(buffers[0].data[0], 0, 0);
    assert_float_equal(buffers[1].data[0], 1, 0);
    pith_net_freeze(b.net, false);
    pith_tape_step(b.tape, 2);
    assert_non_null(pith_net_forward(b.net, x));
    assert_true(fabsf(buffers[0].data[0]) > 0);
    pith_tape_step(b.tape, 3);
    pith_tape_record(b.tape, false);
    pith_var *still = pith_net_forward(b.net, x);
    pith_net_freeze(b.net, true);
    pith_var *frozen = pith_net_forward(b.net, x);
    assert_memory_equal(still->data, frozen->data, still->count * sizeof(float));
    net_bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kinds), cmocka_unit_test(test_settings), cmocka_unit_test(test_seed), cmocka_unit_test(test_load),
                                       cmocka_unit_test(test_hooks), cmocka_unit_test(test_freeze)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
