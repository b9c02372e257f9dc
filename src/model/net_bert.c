/* BERT's encoder (Devlin et al., arXiv:1810.04805): the norm after attention and after the perceptron.  A sentence's
 * embedding is the mean over its tokens, brought to length 1 (Sentence-BERT: Reimers, Gurevych, arXiv:1908.10084).
 * Names are those of Hugging Face's BertModel. */
#include "model/net_kind.h"

typedef struct block {
    pith_linear_layer query, key, value, output, up, down;
    pith_norm_layer norm1, norm2;
    size_t depth;
} block;

typedef struct bert {
    pith_embedding_layer words, positions, types;
    pith_norm_layer norm;
    size_t n_blocks, n_heads, width, n_ctx, n_vocab;
    block *blocks;
    size_t tokens, last;          /* depths */
    float dropout;
    bool sentence, unit;
    pith_linear_layer head;       /* classes > 0 */
    bool has_head;
} bert;

static const pith_net_setting settings[] = {
    {"vocab", PITH_NET_COUNT, "30522", 1, 1 << 24, NULL, "tokens there are"},
    {"context", PITH_NET_COUNT, "512", 1, 1 << 20, NULL, "tokens of a text at most"},
    {"types", PITH_NET_COUNT, "2", 1, 16, NULL, "kinds of segments; texts are of the first"},
    {"width", PITH_NET_COUNT, "384", 1, 1 << 14, NULL, "values of a token, a multiple of heads"},
    {"depth", PITH_NET_COUNT, "6", 1, 1000, NULL, "blocks"},
    {"heads", PITH_NET_COUNT, "12", 1, 1024, NULL, "of attention"},
    {"hidden", PITH_NET_COUNT, "1536", 1, 1 << 16, NULL, "values within a perceptron"},
    {"output", PITH_NET_CHOICE, "\"unit\"", 0, 0, "unit|mean|tokens", "mean of a text's tokens, of length 1 or as it is; or all tokens"},
    {"classes", PITH_NET_COUNT, "0", 0, 1 << 20, NULL, "a linear layer (\"classifier\") to so many values after that; 0: none"},
    {"dropout", PITH_NET_REAL, "0", 0, 0.99, NULL, "share dropped of embeddings and of each branch in training"},
    {0}};

static void build_block(pith_net *net, block *b, size_t i, size_t width, size_t hidden)
{
    const char *name = pith_net_name(net, "encoder.layer.%zu", i);
    pith_linear_build(net, &b->query, pith_net_name(net, "%s.attention.self.query", name), width, width, true, PITH_LAYER_SMALL);
    pith_linear_build(net, &b->key, pith_net_name(net, "%s.attention.self.key", name), width, width, true, PITH_LAYER_SMALL);
    pith_linear_build(net, &b->value, pith_net_name(net, "%s.attention.self.value", name), width, width, true, PITH_LAYER_SMALL);
    pith_linear_build(net, &b->output, pith_net_name(net, "%s.attention.output.dense", name), width, width, true, PITH_LAYER_SMALL);
    pith_norm_build(net, &b->norm1, pith_net_name(net, "%s.attention.output.LayerNorm", name), PITH_NORM_LAYER, width, 1e-12f);
    pith_linear_build(net, &b->up, pith_net_name(net, "%s.intermediate.dense", name), width, hidden, true, PITH_LAYER_SMALL);
    pith_linear_build(net, &b->down, pith_net_name(net, "%s.output.dense", name), hidden, width, true, PITH_LAYER_SMALL);
    pith_norm_build(net, &b->norm2, pith_net_name(net, "%s.output.LayerNorm", name), PITH_NORM_LAYER, width, 1e-12f);
    b->depth = pith_net_add_depth(net, name);
}

static void build(pith_net *net, void *self)
{
    bert *m = self;
    const pith_init small = {PITH_INIT_TRUNCATED, 0.02f};
    size_t classes = pith_net_count(net, "classes");
    m->width = pith_net_count(net, "width");
    m->n_heads = pith_net_count(net, "heads");
    m->n_blocks = pith_net_count(net, "depth");
    m->n_ctx = pith_net_count(net, "context");
    m->n_vocab = pith_net_count(net, "vocab");
    m->sentence = !pith_net_is(net, "output", "tokens");
    m->unit = pith_net_is(net, "output", "unit");
    m->dropout = pith_net_real(net, "dropout");
    m->blocks = pith_net_take(net, m->n_blocks, sizeof *m->blocks);
    if (m->width % m->n_heads) pith_net_fail(net, PITH_E_ARGUMENT, "a width of %zu is no multiple of %zu heads", m->width, m->n_heads);
    if (!m->blocks) return;
    pith_embedding_build(net, &m->words, "embeddings.word_embeddings", m->n_vocab, m->width, small);
    pith_embedding_build(net, &m->positions, "embeddings.position_embeddings", m->n_ctx, m->width, small);
    pith_embedding_build(net, &m->types, "embeddings.token_type_embeddings", pith_net_count(net, "types"), m->width, small);
    pith_norm_build(net, &m->norm, "embeddings.LayerNorm", PITH_NORM_LAYER, m->width, 1e-12f);
    m->tokens = pith_net_add_depth(net, "embeddings");
    for (size_t i = 0; i < m->n_blocks; i++) build_block(net, &m->blocks[i], i, m->width, pith_net_count(net, "hidden"));
    m->last = pith_net_add_depth(net, "sentence");
    m->has_head = classes > 0;
    if (m->has_head) pith_linear_build(net, &m->head, "classifier", m->width, classes, true, PITH_LAYER_SMALL);
}

static pith_var *run_block(pith_net *net, const bert *m, const block *b, const pith_attention *seen, pith_var *x)
{
    pith_var *y = pith_var_attention_heads(pith_linear_run(&b->query, x), pith_linear_run(&b->key, x), pith_linear_run(&b->value, x), m->n_heads, m->n_heads, seen);
    y = pith_net_dropout(net, pith_linear_run(&b->output, y), m->dropout);
    x = pith_norm_run(&b->norm1, pith_var_add(x, y));
    y = pith_linear_run(&b->down, pith_var_gelu(pith_linear_run(&b->up, x)));
    return pith_net_depth(net, b->depth, pith_norm_run(&b->norm2, pith_var_add(x, pith_net_dropout(net, y, m->dropout))));
}

/* Words, where they stand, and their (one) type, [n, len, width]. */
static pith_var *embedded(const bert *m, const pith_net_input *in)
{
    pith_var *x = pith_embedding_run(&m->words, in->ids, in->n, in->len);
    x = pith_var_add(x, pith_var_slice(m->positions.w->value, 0, 0, in->len));
    return pith_norm_run(&m->norm, pith_var_add(x, pith_var_slice(m->types.w->value, 0, 0, 1)));
}

static pith_var *forward(pith_net *net, void *self, const pith_net_input *in)
{
    const bert *m = self;
    if (!in->ids || !in->len) return pith_net_refuse(net, "ids of at least one token are needed");
    if (in->len > m->n_ctx) return pith_op_fail(net->tape, PITH_E_ARGUMENT, "%s: a text of %zu tokens; %zu is the most, cut it", net->name, in->len, m->n_ctx);
    const pith_attention seen = {.n_keys = in->n_tokens};
    pith_var *x = pith_net_depth(net, m->tokens, pith_net_dropout(net, embedded(m, in), m->dropout));
    for (size_t i = 0; i < m->n_blocks; i++) x = run_block(net, m, &m->blocks[i], &seen, x);
    if (m->sentence) x = pith_mean_of_tokens(in, x);
    if (m->unit) x = pith_var_unit(x, 1e-12f);
    x = pith_net_depth(net, m->last, x);
    return m->has_head ? pith_linear_run(&m->head, x) : x;
}

static const pith_net_preset presets[] = {
    {"minilm", "{}", "all-MiniLM-L6-v2: 6 blocks, width 384, sentence embeddings"},
    {"bert-base", "{\"width\": 768, \"depth\": 12, \"hidden\": 3072, \"output\": \"tokens\"}", "12 blocks, width 768"},
    {0}};

const pith_net_kind pith_net_kind_bert = {
    .info = {"bert", "encoder of texts; ids [n, len], n_tokens -> [n, width], or [n, len, width] for tokens, or [.., classes]",
             "Devlin et al., arXiv:1810.04805; begins as there (normal of 0.02)", settings, presets},
    .size = sizeof(bert), .build = build, .forward = forward};
