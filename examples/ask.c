/* Ask a model one question and print the reply as it comes.
 *
 *     cc ask.c $(pkg-config --cflags --libs pith) -o ask
 *     ./ask model.pith "Why is the sky blue?" */
#include <pith.h>
#include <stdio.h>
#include <string.h>

static bool print(void *user, const char *text, size_t len)
{
    (void)user;
    fwrite(text, 1, len, stdout);
    return fflush(stdout) == 0; /* false stops the reply */
}

int main(int argc, char **argv)
{
    pith_ctx *ctx = NULL;
    pith_model *model = NULL;
    pith_session *session = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: ask MODEL QUESTION\n");
        return 2;
    }
    if (pith_ctx_new(NULL, &ctx) != PITH_OK) return 1;

    pith_status status = pith_model_open(ctx, argv[1], NULL, &model);
    if (status == PITH_OK) status = pith_session_new(model, 0, PITH_KV_F16, &session);
    if (status == PITH_OK) {
        pith_reply_options options;
        pith_reply reply;
        pith_model_info info;
        pith_message question = {.role = "user", .content = argv[2]};
        pith_reply_defaults(&options);
        options.temperature = 0; /* always the same reply */
        options.max_tokens = 200;
        options.text = print;
        pith_model_describe(model, &info);
        status = info.has_chat ? pith_session_reply(session, &question, 1, &options, &reply)
                               : pith_session_complete(session, argv[2], strlen(argv[2]), &options, &reply);
        if (status == PITH_OK) printf("\n[%zu tokens, ended by: %s]\n", reply.n_generated, reply.ended_by);
    }
    if (status != PITH_OK) fprintf(stderr, "ask: %s\n", pith_error(ctx));

    pith_session_free(session);
    pith_model_free(model);
    pith_ctx_free(ctx);
    return status == PITH_OK ? 0 : 1;
}
