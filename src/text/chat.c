/* Chat templates.  A template is Jinja text; pith does not run it but knows the families below.  The text is first
 * brought to one form (no spaces and dashes inside tags, single quotes, escapes resolved, what it writes between
 * tags as {{'text'}}), in which the many spellings of one template are equal; what then is not recognised in every
 * part that writes something is refused, not guessed. */
#include <time.h>

#include "text/model.h"

typedef pith_text_buf buf;

static pith_status put(pith_ctx *ctx, buf *b, const char *s) { return pith_text_buf_put(ctx, b, s, strlen(s)); }

/* ---- one form of a template ------------------------------------------------------------------- */

typedef struct tag {
    const char *begin, *end;     /* with its braces */
    char kind;                   /* { % # */
} tag;

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* The next tag at or after p; strings inside tags may hold closing braces. */
static bool next_tag(const char *p, tag *t)
{
    for (; *p; p++) {
        if (*p != '{' || !p[1] || !strchr("{%#", p[1])) continue;
        char close = p[1] == '{' ? '}' : p[1], quote = 0;
        for (const char *q = p + 2; *q; q++) {
            if (quote && *q == '\\' && q[1]) q++;
            else if (quote && *q == quote) quote = 0;
            else if (!quote && close != '#' && (*q == '\'' || *q == '"')) quote = *q;
            else if (!quote && *q == close && q[1] == '}') {
                *t = (tag){p, q + 2, p[1]};
                return true;
            }
        }
        return false;
    }
    return false;
}

/* Text between tags as it is written out: Jinja with trim_blocks and lstrip_blocks, which is how templates are run. */
static pith_status put_text(pith_ctx *ctx, buf *dst, const char *p, const char *end, const tag *before, const tag *after)
{
    if (before && before->end[-3] == '-') {
        while (p < end && blank(*p)) p++;
    } else if (before && before->kind != '{' && p < end && *p == '\n') {
        p++;
    }
    if (after && after->begin[2] == '-') {
        while (p < end && blank(end[-1])) end--;
    } else if (after && after->kind != '{') {
        const char *q = end;
        while (q > p && (q[-1] == ' ' || q[-1] == '\t')) q--;
        if ((q > p && q[-1] == '\n') || (q == p && !before)) end = q;
    }
    if (!after && end > p && end[-1] == '\n') end--; /* the file's last line end is not part of it */
    if (p == end) return PITH_OK;
    PITH_TRY(put(ctx, dst, "{{'"));
    PITH_TRY(pith_text_buf_put(ctx, dst, p, (size_t)(end - p)));
    return put(ctx, dst, "'}}");
}

static pith_status put_tag(pith_ctx *ctx, buf *dst, const tag *t)
{
    const char open[3] = {'{', t->kind, 0}, close[3] = {t->kind == '{' ? '}' : t->kind, '}', 0};
    const char *p = t->begin + 2, *end = t->end - 2;
    if (t->kind == '#') return PITH_OK;
    if (p < end && *p == '-') p++;
    if (p < end && end[-1] == '-') end--;
    PITH_TRY(put(ctx, dst, open));
    char quote = 0;
    for (; p < end; p++) {
        char c = *p;
        if (!quote && blank(c)) continue;
        if (!quote && (c == '\'' || c == '"')) {
            quote = c;
            c = '\'';
        } else if (quote && c == quote) {
            quote = 0;
            c = '\'';
        } else if (quote && c == '\\' && p + 1 < end) {
            c = *++p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
        } else if (!quote && c == '.' && (!strncmp(p, ".role", 5) || !strncmp(p, ".content", 8))) {
            bool role = p[1] == 'r';
            PITH_TRY(put(ctx, dst, role ? "['role']" : "['content']"));
            p += role ? 4 : 7;
            continue;
        }
        PITH_TRY(pith_text_buf_put(ctx, dst, &c, 1));
    }
    return put(ctx, dst, close);
}

static pith_status one_form(pith_ctx *ctx, const char *template, buf *dst)
{
    tag t, last;
    const char *p = template;
    bool any = false;
    while (next_tag(p, &t)) {
        PITH_TRY(put_text(ctx, dst, p, t.begin, any ? &last : NULL, &t));
        PITH_TRY(put_tag(ctx, dst, &t));
        p = t.end;
        last = t;
        any = true;
    }
    PITH_TRY(put_text(ctx, dst, p, p + strlen(p), any ? &last : NULL, NULL));
    return pith_text_buf_put(ctx, dst, "", 1);
}

/* ---- families --------------------------------------------------------------------------------- */

typedef enum family { CHATML, LLAMA3, LLAMA31, LLAMA2, MISTRAL } family;

typedef struct style {
    family family;
    const char *system;          /* default system message, in the one form; NULL: none */
    size_t n_system;
    bool always_open;            /* the reply is opened whether asked or not */
    bool never_open;             /* … or never */
    bool today;                  /* LLAMA31: today's date */
    bool tight;                  /* MISTRAL: no space before [/INST] */
    bool reply_space;            /* MISTRAL: a space before replies, which are trimmed if `trim` */
    bool trim;
    bool space_after;            /* MISTRAL: a space after the end token */
    char system_at;              /* MISTRAL: 'f' first or 'l' last user message takes the system message; 0: refused */
} style;

/* Step over `s` if the text goes on with it. */
static bool eat(const char **p, const char *s)
{
    size_t n = strlen(s);
    if (strncmp(*p, s, n)) return false;
    *p += n;
    return true;
}

/* The text up to `end`, which is stepped over. */
static bool eat_until(const char **p, const char *end, const char **text, size_t *len)
{
    const char *q = strstr(*p, end);
    if (!q) return false;
    *text = *p;
    *len = (size_t)(q - *p);
    *p = q + strlen(end);
    return true;
}

static const char CHATML_OPEN[] = "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\n'}}{%endif%}";
static const char LLAMA3_OPEN[] = "{{'<|start_header_id|>assistant<|end_header_id|>\n\n'}}";

static bool eat_chatml_body(const char **p)
{
    return eat(p, "{{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>'+'\n'}}") ||
           eat(p, "{{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n'}}");
}

static bool is_chatml(const char *p, style *s)
{
    const char *start = p;
    *s = (style){.family = CHATML};
    if (eat(&p, "{%formessageinmessages%}")) { /* ChatML, SmolLM2, Qwen2 */
        if (eat(&p, "{%ifloop.firstandmessages[0]['role']!='system'%}{{'<|im_start|>system\n") &&
            (!eat_until(&p, "<|im_end|>\n'}}{%endif%}", &s->system, &s->n_system) || memchr(s->system, '\'', s->n_system)))
            return false;
        if (!eat_chatml_body(&p) || !eat(&p, "{%endfor%}")) return false;
        s->never_open = !*p;
        return !*p || !strcmp(p, CHATML_OPEN);
    }
    /* Qwen2.5: tools apart, the first message or a default goes before the others */
    p = strstr(start, "{%else%}{%ifmessages[0]['role']=='system'%}{{'<|im_start|>system\n'+messages[0]['content']+'<|im_end|>\n'}}{%else%}{{'<|im_start|>system\n");
    if (!p || strncmp(start, "{%iftools%}", 11) || strstr(start, "<think>")) return false;
    p = strstr(p, "{%else%}{{") + strlen("{%else%}{{'<|im_start|>system\n");
    if (!eat_until(&p, "<|im_end|>\n'}}{%endif%}{%endif%}{%formessageinmessages%}", &s->system, &s->n_system) || memchr(s->system, '\'', s->n_system)) return false;
    if (!eat(&p, "{%if(message['role']=='user')or(message['role']=='system'andnotloop.first)or(message['role']=='assistant'andnotmessage.tool_calls)%}")) return false;
    size_t n = strlen(p), n_open = strlen(CHATML_OPEN);
    return eat_chatml_body(&p) && n >= n_open && !strcmp(p + strlen(p) - n_open, CHATML_OPEN);
}

static bool is_llama3(const char *p, style *s)
{
    static const char body[] = "'<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'+message['content']|trim+'<|eot_id|>'";
    const char *start = p;
    *s = (style){.family = LLAMA3};
    if (eat(&p, "{%setloop_messages=messages%}{%formessageinloop_messages%}{%setcontent=") && eat(&p, body) &&
        eat(&p, "%}{%ifloop.index0==0%}{%setcontent=bos_token+content%}{%endif%}{{content}}{%endfor%}")) {
        s->never_open = !*p;
        s->always_open = !strcmp(p, LLAMA3_OPEN);
        return !*p || s->always_open || (eat(&p, "{%ifadd_generation_prompt%}") && eat(&p, LLAMA3_OPEN) && !strcmp(p, "{%endif%}"));
    }
    /* 3.1 to 3.3: a system message in any case, with dates */
    static const char *const parts[] = {"{%setdate_string='26 Jul 2024'%}", "{%ifmessages[0]['role']=='system'%}{%setsystem_message=messages[0]['content']|trim%}{%setmessages=messages[1:]%}{%else%}{%setsystem_message=''%}{%endif%}",
        "{{'<|start_header_id|>system<|end_header_id|>\n\n'}}", "{{'Cutting Knowledge Date: December 2023\n'}}{{'Today Date: '+date_string+'\n\n'}}",
        "{{system_message}}{{'<|eot_id|>'}}", "{%formessageinmessages%}"};
    *s = (style){.family = LLAMA31, .today = strstr(start, "{%setdate_string=strftime_now('%d %b %Y')%}") != NULL};
    if (!eat(&p, "{{bos_token}}")) return false;
    for (size_t i = 0; i < PITH_COUNT(parts); i++) {
        p = strstr(p, parts[i]);
        if (!p) return false;
        p += strlen(parts[i]);
    }
    if (!(p = strstr(p, body)) || !(p = strstr(p, "{%ifadd_generation_prompt%}"))) return false;
    return eat(&p, "{%ifadd_generation_prompt%}") && eat(&p, LLAMA3_OPEN) && !strcmp(p, "{%endif%}");
}

static bool is_llama2(const char *p, style *s)
{
    static const char *const parts[] = {"{%ifmessages[0]['role']=='system'%}", "{%setsystem_message=messages[0]['content']%}", "{%setsystem_message=false%}",
        "'<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'+message['content']", "{{bos_token+'[INST] '+content.strip()+' [/INST]'}}", "{{' '+content.strip()+' '+eos_token}}{%endif%}{%endfor%}"};
    *s = (style){.family = LLAMA2, .never_open = true};
    if (strstr(p, "system_message='")) return false; /* a default of its own */
    for (size_t i = 0; i < PITH_COUNT(parts); i++) {
        p = strstr(p, parts[i]);
        if (!p) return false;
        p += strlen(parts[i]);
    }
    return !*p;
}

static bool is_mistral(const char *p, style *s)
{
    *s = (style){.family = MISTRAL, .never_open = true};
    const char *user = strstr(p, "{{'[INST] '+message['content']+");
    if (!user || !strstr(p, "{{bos_token}}") || strstr(p, "<<SYS>>")) return false;
    const char *q = user + strlen("{{'[INST] '+message['content']+");
    s->tight = eat(&q, "'[/INST]'}}");
    if (!s->tight && !eat(&q, "' [/INST]'}}")) return false;
    s->reply_space = strstr(q, "{{' '+message['content']") != NULL;
    s->trim = strstr(q, "+message['content']|trim+eos_token}}") != NULL;
    s->space_after = strstr(q, "{{message['content']+eos_token+' '}}") != NULL;
    if (!s->space_after && !strstr(q, s->trim ? "{{' '+message['content']|trim+eos_token}}" : s->reply_space ? "{{' '+message['content']+eos_token}}" : "{{message['content']+eos_token}}"))
        return false;
    const char *system = strstr(p, "system_messageisdefined%}{{'[INST] '+system_message+'\n\n'+message['content']+");
    if (system) {
        const char *first = strstr(p, "loop.firstandsystem_messageisdefined%}"), *last = strstr(p, "loop.lastandsystem_messageisdefined%}");
        s->system_at = first && !last ? 'f' : last && !first ? 'l' : 0;
        if (!s->system_at) return false;
    }
    return (system != NULL) == (strstr(p, "system_message") != NULL);
}

/* ---- writing ---------------------------------------------------------------------------------- */

typedef struct writer {
    pith_ctx *ctx;
    const pith_tokenizer *tok;
    buf *dst;
    pith_status status;          /* of the first failure; then nothing is written */
} writer;

static void write_n(writer *w, const char *s, size_t n)
{
    if (w->status == PITH_OK) w->status = pith_text_buf_put(w->ctx, w->dst, s, n);
}

static void write_s(writer *w, const char *s) { write_n(w, s, strlen(s)); }

static void write_token(writer *w, int32_t id)
{
    if (id >= 0) write_n(w, (const char *)w->tok->name_text + w->tok->name_begin[id], w->tok->name_begin[id + 1] - w->tok->name_begin[id]);
}

/* Without white space at both ends, as Python's str.strip. */
static void write_trimmed(writer *w, const char *s)
{
    const uint8_t *p = (const uint8_t *)s, *end = p + strlen(s), *last = p, *q;
    size_t n;
    bool begun = false;
    for (q = p; q < end; q += n) {
        bool space = (pith_class_at(&w->tok->unicode, q, end, &n) & PITH_CHAR_SPACE) || (*q >= 0x1C && *q <= 0x1F);
        if (space) continue;
        if (!begun) p = q;
        begun = true;
        last = q + n;
    }
    if (begun) write_n(w, (const char *)p, (size_t)(last - p));
}

static bool is_role(const pith_message *m, const char *role) { return !strcmp(m->role, role); }

static void write_chatml(writer *w, const style *s, const pith_message *m, size_t n)
{
    if (s->system && !is_role(&m[0], "system")) {
        write_s(w, "<|im_start|>system\n");
        write_n(w, s->system, s->n_system);
        write_s(w, "<|im_end|>\n");
    }
    for (size_t i = 0; i < n; i++) {
        write_s(w, "<|im_start|>");
        write_s(w, m[i].role);
        write_s(w, "\n");
        write_s(w, m[i].content);
        write_s(w, "<|im_end|>\n");
    }
}

static void write_llama3_header(writer *w, const char *role)
{
    write_s(w, "<|start_header_id|>");
    write_s(w, role);
    write_s(w, "<|end_header_id|>\n\n");
}

static void write_llama3(writer *w, const style *s, const pith_message *m, size_t n)
{
    size_t i = 0;
    write_token(w, w->tok->bos);
    if (s->family == LLAMA31) {
        static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        char date[32] = "26 Jul 2024";
        time_t now = time(NULL);
        struct tm tm;
        if (s->today && localtime_r(&now, &tm)) snprintf(date, sizeof date, "%02d %s %d", tm.tm_mday, months[tm.tm_mon % 12], tm.tm_year + 1900);
        write_llama3_header(w, "system");
        write_s(w, "Cutting Knowledge Date: December 2023\nToday Date: ");
        write_s(w, date);
        write_s(w, "\n\n");
        if (is_role(&m[0], "system")) write_trimmed(w, m[i++].content);
        write_s(w, "<|eot_id|>");
    }
    for (; i < n; i++) {
        write_llama3_header(w, m[i].role);
        write_trimmed(w, m[i].content);
        write_s(w, "<|eot_id|>");
    }
}

static void write_llama2(writer *w, const pith_message *m, size_t n)
{
    const char *system = is_role(&m[0], "system") ? m[0].content : NULL;
    for (size_t i = system ? 1 : 0, first = i; i < n; i++) {
        if (is_role(&m[i], "user")) {
            buf content = {0};
            writer c = {w->ctx, w->tok, &content, PITH_OK};
            write_token(w, w->tok->bos);
            write_s(w, "[INST] ");
            if (system && i == first) {
                write_s(&c, "<<SYS>>\n");
                write_s(&c, system);
                write_s(&c, "\n<</SYS>>\n\n");
            }
            write_s(&c, m[i].content);
            write_n(&c, "", 1);
            if (w->status == PITH_OK) w->status = c.status;
            if (w->status == PITH_OK) write_trimmed(w, (const char *)content.p);
            pith_free(w->ctx, content.p);
            write_s(w, " [/INST]");
        } else {
            write_s(w, " ");
            write_trimmed(w, m[i].content);
            write_s(w, " ");
            write_token(w, w->tok->eos);
        }
    }
}

static void write_mistral(writer *w, const style *s, const pith_message *m, size_t n)
{
    const char *system = is_role(&m[0], "system") ? m[0].content : NULL;
    write_token(w, w->tok->bos);
    for (size_t i = system ? 1 : 0, first = i; i < n; i++) {
        if (is_role(&m[i], "user")) {
            write_s(w, "[INST] ");
            if (system && i == (s->system_at == 'f' ? first : n - 1)) {
                write_s(w, system);
                write_s(w, "\n\n");
            }
            write_s(w, m[i].content);
            write_s(w, s->tight ? "[/INST]" : " [/INST]");
        } else {
            if (s->reply_space) write_s(w, " ");
            if (s->trim) write_trimmed(w, m[i].content);
            else write_s(w, m[i].content);
            write_token(w, w->tok->eos);
            if (s->space_after) write_s(w, " ");
        }
    }
}

/* What the templates themselves would refuse. */
static pith_status check(pith_ctx *ctx, const style *s, const pith_message *m, size_t n)
{
    bool alternate = s->family == LLAMA2 || s->family == MISTRAL;
    size_t first = n && is_role(&m[0], "system") ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_role(&m[i], "system") && !is_role(&m[i], "user") && !is_role(&m[i], "assistant"))
            return pith_fail(ctx, PITH_E_ARGUMENT, "chat: message %zu has the role \"%.40s\"; system, user and assistant are known", i, m[i].role);
        if (alternate && i >= first && !is_role(&m[i], (i - first) % 2 ? "assistant" : "user"))
            return pith_fail(ctx, PITH_E_ARGUMENT, "chat: message %zu is of the %s; this model's template wants user and assistant in turn", i, m[i].role);
    }
    if (!n || (alternate && n == first)) return pith_fail(ctx, PITH_E_ARGUMENT, "chat: a conversation without messages");
    if (s->family == MISTRAL && first && !s->system_at) return pith_fail(ctx, PITH_E_ARGUMENT, "chat: this model's template takes no system message: put it into the first user message");
    return PITH_OK;
}

static pith_status format(pith_ctx *ctx, const pith_tokenizer *tok, const char *form, const pith_message *m, size_t n, bool open_reply, buf *dst)
{
    style s;
    if (!is_chatml(form, &s) && !is_llama3(form, &s) && !is_llama2(form, &s) && !is_mistral(form, &s))
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "chat: the model's template is of no family that pith knows (ChatML, Llama 2 and 3, Mistral); send a plain prompt instead");
    PITH_TRY(check(ctx, &s, m, n));
    writer w = {ctx, tok, dst, PITH_OK};
    switch (s.family) {
    case CHATML: write_chatml(&w, &s, m, n); break;
    case LLAMA3:
    case LLAMA31: write_llama3(&w, &s, m, n); break;
    case LLAMA2: write_llama2(&w, m, n); break;
    case MISTRAL: write_mistral(&w, &s, m, n); break;
    }
    if (!s.never_open && (open_reply || s.always_open)) {
        if (s.family == CHATML) write_s(&w, "<|im_start|>assistant\n");
        else write_llama3_header(&w, "assistant");
    }
    write_n(&w, "", 1);
    return w.status;
}

pith_status pith_chat_format(pith_ctx *ctx, const pith_tokenizer *tok, const pith_message *messages, size_t n_messages, bool open_reply, char **text)
{
    buf form = {0}, dst = {0};
    if (!*tok->chat_template) return pith_fail(ctx, PITH_E_UNSUPPORTED, "chat: the model's file has no chat template; send a plain prompt instead");
    pith_status status = one_form(ctx, tok->chat_template, &form);
    if (status == PITH_OK) status = format(ctx, tok, (const char *)form.p, messages, n_messages, open_reply, &dst);
    pith_free(ctx, form.p);
    if (status != PITH_OK) pith_free(ctx, dst.p);
    else *text = (char *)dst.p;
    return status;
}
