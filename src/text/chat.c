/* Chat templates.  A template is Jinja text; pith does not run it but knows the families below.  The text is first
 * brought to one form (no dashes and no needless spaces inside tags, single quotes, escapes resolved, what stands
 * between tags as {{'text'}}), in which the many spellings of one template are equal; then the branches that only
 * tools reach are cut out.  What is left must be a family's template from its first to its last character: anything
 * else is refused, not guessed. */
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

#define APOSTROPHE '\1' /* inside a string of the one form */

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
    for (; p < end; p++) PITH_TRY(pith_text_buf_put(ctx, dst, *p == '\'' ? (const char[]){APOSTROPHE} : p, 1));
    return put(ctx, dst, "'}}");
}

static bool is_word(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_'; }

static bool is_member(const char *p, const char *name)
{
    size_t n = strlen(name);
    return !strncmp(p, name, n) && !is_word(p[n]);
}

static pith_status put_tag(pith_ctx *ctx, buf *dst, const tag *t)
{
    const char open[3] = {'{', t->kind, 0}, close[3] = {t->kind == '{' ? '}' : t->kind, '}', 0};
    const char *p = t->begin + 2, *end = t->end - 2;
    if (t->kind == '#') return PITH_OK;
    if (p < end && *p == '-') p++;
    if (p < end && end[-1] == '-') end--;
    PITH_TRY(put(ctx, dst, open));
    char quote = 0, last = 0;
    bool gap = false;
    for (; p < end; p++) {
        char c = *p;
        if (!quote && blank(c)) {
            gap = true;
            continue;
        }
        if (!quote && gap && is_word(c) && is_word(last)) PITH_TRY(put(ctx, dst, " "));
        gap = false;
        last = c;
        if (!quote && (c == '\'' || c == '"')) {
            quote = c;
            c = '\'';
        } else if (quote && c == quote) {
            quote = 0;
            c = '\'';
        } else if (quote && c == '\'') {
            c = APOSTROPHE;
        } else if (quote && c == '\\' && p + 1 < end) {
            c = *++p == 'n' ? '\n' : *p == 't' ? '\t' : *p == '\'' ? APOSTROPHE : *p;
        } else if (!quote && c == '.' && (is_member(p, ".role") || is_member(p, ".content"))) {
            bool role = p[1] == 'r';
            PITH_TRY(put(ctx, dst, role ? "['role']" : "['content']"));
            p += role ? 4 : 7;
            last = ']';
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

/* ---- what only tools reach -------------------------------------------------------------------- */

typedef enum truth { NO, MAYBE, YES } truth;

/* What conditions are when a conversation has no tools and the date is not given. */
static const struct {
    const char *atom;
    truth value;
} atoms[] = {
    {"tools", NO}, {"tools is defined", NO}, {"tools is not none", NO}, {"tools is none", YES}, {"custom_tools is defined", NO}, {"builtin_tools is defined", NO},
    {"tools_in_user_message is defined", NO}, {"date_string is defined", NO}, {"strftime_now is defined", YES},
    {"'tool_calls'in message", NO}, {"message.tool_calls", NO}, {"message.tool_calls is defined", NO}, {"message.tool_calls is not none", NO},
    {"message['role']=='tool'", NO}, {"message['role']=='tool_results'", NO}, {"message['role']=='ipython'", NO},
};

static bool is_keyword(const char *begin, const char *p, const char *end, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(end - p) >= n && !strncmp(p, word, n) && (p == begin || !is_word(p[-1])) && (p + n == end || !is_word(p[n]));
}

/* The end of an operand: `and`, `or` or the condition's end, outside brackets and strings. */
static const char *operand_end(const char *p, const char *end)
{
    const char *begin = p;
    int depth = 0;
    bool quoted = false;
    for (; p < end; p++) {
        if (*p == '\'') quoted = !quoted;
        if (quoted) continue;
        if (*p == '(' || *p == '[') depth++;
        if (*p == ')' || *p == ']') depth--;
        if (!depth && (is_keyword(begin, p, end, "and") || is_keyword(begin, p, end, "or"))) break;
    }
    return p;
}

static truth condition(const char *p, const char *end, int depth);

static truth operand(const char *p, const char *end, int depth)
{
    while (p < end && *p == ' ') p++;
    while (p < end && end[-1] == ' ') end--;
    if (is_keyword(p, p, end, "not")) return (truth)(YES - operand(p + 3, end, depth));
    if (p < end && *p == '(') {
        int open = 0;
        const char *q = p;
        do open += (*q == '(') - (*q == ')');
        while (open && ++q < end);
        if (q == end - 1) return condition(p + 1, q, depth + 1);
    }
    for (size_t i = 0; i < PITH_COUNT(atoms); i++)
        if (strlen(atoms[i].atom) == (size_t)(end - p) && !strncmp(atoms[i].atom, p, (size_t)(end - p))) return atoms[i].value;
    return MAYBE;
}

/* Kleene's three values: `or` of `and`s of operands. */
static truth condition(const char *p, const char *end, int depth)
{
    truth any = NO, all = YES;
    if (depth > 32) return MAYBE;
    for (;;) {
        const char *q = operand_end(p, end);
        truth t = operand(p, q, depth);
        all = PITH_MIN(all, t);
        bool and = q < end && *q == 'a';
        if (!and) {
            any = PITH_MAX(any, all);
            all = YES;
        }
        if (q == end) return any;
        p = q + (and ? 3 : 2);
    }
}

enum { DEEPEST = 32 };

typedef struct branch {
    bool outer;      /* what surrounds the `if` is written */
    bool here;       /* this branch is written */
    bool decided;    /* a branch that is surely taken has come */
    bool opened;     /* an `if` was written */
} branch;

/* Cut the branches that are not reached, and open up those that surely are.  What is no template becomes none. */
static pith_status cut_tools(pith_ctx *ctx, const char *form, buf *dst)
{
    static const char *const unwritten[] = {"{%set tools=", "{%set tools_in_user_message=", "{%set user_messages="};
    branch stack[DEEPEST + 1] = {{true, true, false, false}};
    size_t depth = 0;
    tag t;
    for (const char *p = form; next_tag(p, &t); p = t.end) {
        branch *b = &stack[depth];
        size_t len = (size_t)(t.end - t.begin);
        const char *body = t.begin + 2;
        bool is_if = is_member(t.begin, "{%if"), is_elif = is_member(t.begin, "{%elif"), is_else = !strncmp(t.begin, "{%else%}", 8), is_end = !strncmp(t.begin, "{%endif%}", 9);
        if (is_if) {
            if (depth == DEEPEST) return put(ctx, dst, "{%too deep%}"); /* matches nothing */
            b = &stack[++depth];
            *b = (branch){.outer = stack[depth - 1].here};
        }
        if ((is_elif || is_else || is_end) && !depth) return put(ctx, dst, "{%without if%}");
        if (is_if || is_elif || is_else) {
            truth now = is_else ? YES : condition(body + (is_if ? 2 : 4), t.end - 2, 0);
            b->here = b->outer && !b->decided && now != NO;
            if (b->here && now == YES) {
                if (b->opened) PITH_TRY(put(ctx, dst, "{%else%}"));
                b->decided = true;
            } else if (b->here) {
                PITH_TRY(put(ctx, dst, b->opened ? "{%elif" : "{%if"));
                PITH_TRY(pith_text_buf_put(ctx, dst, body + (is_if ? 2 : 4), (size_t)(t.end - body) - (is_if ? 2 : 4)));
                b->opened = true;
            }
        } else if (is_end) {
            if (b->opened) PITH_TRY(put(ctx, dst, "{%endif%}"));
            depth--;
        } else if (b->here) {
            bool keep = true;
            for (size_t i = 0; i < PITH_COUNT(unwritten); i++) keep &= strncmp(t.begin, unwritten[i], strlen(unwritten[i])) != 0;
            if (keep) PITH_TRY(pith_text_buf_put(ctx, dst, t.begin, len));
        }
    }
    return PITH_OK;
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
    bool lead;                   /* MISTRAL: a space before [INST] */
    bool tight;                  /* MISTRAL: no space before [/INST] */
    bool reply_space, trim;      /* MISTRAL: a space before replies; they are trimmed */
    bool space_after;            /* MISTRAL: a space after the end token */
    char system_at;              /* MISTRAL: 'f' first or 'l' last message takes the system message; 0: refused */
} style;

/* Step over `s` if the text goes on with it. */
static bool eat(const char **p, const char *s)
{
    size_t n = strlen(s);
    if (strncmp(*p, s, n)) return false;
    *p += n;
    return true;
}

/* Step over `begin`, anything, and `end`; what lies between, which has no quote in it. */
static bool eat_between(const char **p, const char *begin, const char *end, const char **text, size_t *len)
{
    const char *q = *p;
    if (!eat(&q, begin)) return false;
    const char *to = strstr(q, end);
    if (!to || memchr(q, '\'', (size_t)(to - q))) return false;
    *text = q;
    *len = (size_t)(to - q);
    *p = to + strlen(end);
    return true;
}

static void eat_raise(const char **p, const char *begin, const char *end)
{
    const char *text;
    size_t len;
    eat_between(p, begin, end, &text, &len);
}

/* Step over the rest of an `if` whose branches before this place take every message: to its endif. */
static bool eat_unreached(const char **p)
{
    int depth = 0;
    tag t;
    for (const char *q = *p; next_tag(q, &t); q = t.end) {
        if (is_member(t.begin, "{%if")) depth++;
        if (!strncmp(t.begin, "{%endif%}", 9) && depth-- == 0) {
            *p = t.end;
            return true;
        }
    }
    return false;
}

static bool eat_chatml_body(const char **p)
{
    return eat(p, "{{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>'+'\n'}}") ||
           eat(p, "{{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n'}}");
}

static bool is_chatml(const char *p, style *s)
{
    *s = (style){.family = CHATML};
    /* Qwen2.5: the first message, or a default, before the loop */
    bool apart = eat(&p, "{%if messages[0]['role']=='system'%}{{'<|im_start|>system\n'+messages[0]['content']+'<|im_end|>\n'}}{%else%}");
    if (apart && !eat_between(&p, "{{'<|im_start|>system\n", "<|im_end|>\n'}}{%endif%}", &s->system, &s->n_system)) return false;
    if (!eat(&p, "{%for message in messages%}")) return false;
    if (apart) {
        if (!eat(&p, "{%if(message['role']=='user')or(message['role']=='system'and not loop.first)or(message['role']=='assistant'and not message.tool_calls)%}")) return false;
        if (!eat_chatml_body(&p) || !eat_unreached(&p)) return false;
    } else { /* ChatML; SmolLM2 and Qwen2 with their default inside the loop */
        eat_between(&p, "{%if loop.first and messages[0]['role']!='system'%}{{'<|im_start|>system\n", "<|im_end|>\n'}}{%endif%}", &s->system, &s->n_system);
        if (!eat_chatml_body(&p)) return false;
    }
    if (!eat(&p, "{%endfor%}")) return false;
    s->never_open = !*p;
    return !*p || !strcmp(p, "{%if add_generation_prompt%}{{'<|im_start|>assistant\n'}}{%endif%}");
}

static bool is_llama3(const char *p, style *s)
{
    static const char body[] = "'<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'+message['content']|trim+'<|eot_id|>'";
    static const char open[] = "{{'<|start_header_id|>assistant<|end_header_id|>\n\n'}}";
    static const char asked[] = "{%if add_generation_prompt%}{{'<|start_header_id|>assistant<|end_header_id|>\n\n'}}{%endif%}";
    *s = (style){.family = LLAMA3};
    if (eat(&p, "{%set loop_messages=messages%}{%for message in loop_messages%}{%set content=")) {
        if (!eat(&p, body) || !eat(&p, "%}{%if loop.index0==0%}{%set content=bos_token+content%}{%endif%}{{content}}{%endfor%}")) return false;
        s->never_open = !*p;
        s->always_open = !strcmp(p, open);
        return !*p || s->always_open || !strcmp(p, asked);
    }
    /* 3.1 to 3.3: a system message in any case, with dates */
    s->family = LLAMA31;
    if (!eat(&p, "{{bos_token}}")) return false;
    s->today = eat(&p, "{%set date_string=strftime_now('%d %b %Y')%}");
    return (s->today || eat(&p, "{%set date_string='26 Jul 2024'%}")) &&
           eat(&p, "{%if messages[0]['role']=='system'%}{%set system_message=messages[0]['content']|trim%}{%set messages=messages[1:]%}{%else%}{%set system_message=''%}{%endif%}"
                   "{{'<|start_header_id|>system<|end_header_id|>\n\n'}}{{'Cutting Knowledge Date: December 2023\n'}}{{'Today Date: '+date_string+'\n\n'}}"
                   "{{system_message}}{{'<|eot_id|>'}}{%for message in messages%}{{") &&
           eat(&p, body) && eat(&p, "}}{%endfor%}") && !strcmp(p, asked);
}

static bool is_llama2(const char *p, style *s)
{
    *s = (style){.family = LLAMA2, .never_open = true};
    if (!eat(&p, "{%if messages[0]['role']=='system'%}{%set loop_messages=messages[1:]%}{%set system_message=messages[0]['content']%}{%else%}"
                 "{%set loop_messages=messages%}{%set system_message=false%}{%endif%}{%for message in loop_messages%}")) return false;
    eat_raise(&p, "{%if(message['role']=='user')!=(loop.index0%2==0)%}{{raise_exception('", "')}}{%endif%}");
    return !strcmp(p, "{%if loop.index0==0 and system_message!=false%}{%set content='<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'+message['content']%}{%else%}"
                      "{%set content=message['content']%}{%endif%}{%if message['role']=='user'%}{{bos_token+'[INST] '+content.strip()+' [/INST]'}}"
                      "{%elif message['role']=='assistant'%}{{' '+content.strip()+' '+eos_token}}{%endif%}{%endfor%}");
}

/* '[INST] '+ … +' [/INST]' of a user message, with the spaces that the style says. */
static bool eat_inst(const char **p, const style *s, const char *content)
{
    return eat(p, s->lead ? "{{' [INST] '+" : "{{'[INST] '+") && eat(p, content) && eat(p, s->tight ? "+'[/INST]'}}" : "+' [/INST]'}}");
}

static bool is_mistral(const char *p, style *s)
{
    *s = (style){.family = MISTRAL, .never_open = true};
    bool apart = eat(&p, "{%if messages[0]['role']=='system'%}{%set system_message=messages[0]['content']%}{%set loop_messages=messages[1:]%}{%else%}"
                         "{%set loop_messages=messages%}{%endif%}");
    if (eat(&p, "{%set ns=namespace()%}{%set ns.index=0%}{%for message in loop_messages%}")) {
        eat_raise(&p, "{%if(message['role']=='user')!=(ns.index%2==0)%}{{raise_exception('", "')}}{%endif%}");
        if (!eat(&p, "{%set ns.index=ns.index+1%}{%endfor%}")) return false;
    }
    if (!eat(&p, "{{bos_token}}") || !eat(&p, apart ? "{%for message in loop_messages%}" : "{%for message in messages%}")) return false;
    eat_raise(&p, "{%if(message['role']=='user')!=(loop.index0%2==0)%}{{raise_exception('", "')}}{%endif%}");
    if (!eat(&p, "{%if message['role']=='user'%}")) return false;
    if (apart) s->system_at = eat(&p, "{%if loop.first and system_message is defined%}") ? 'f' : eat(&p, "{%if loop.last and system_message is defined%}") ? 'l' : 0;
    if (apart && !s->system_at) return false;
    s->lead = !strncmp(p, "{{' [", 5);
    const char *inst = strstr(p, "[/INST]");
    s->tight = inst && inst[-1] == '\'';
    if (apart && (!eat_inst(&p, s, "system_message+'\n\n'+message['content']") || !eat(&p, "{%else%}"))) return false;
    if (!eat_inst(&p, s, "message['content']") || (apart && !eat(&p, "{%endif%}")) || !eat(&p, "{%elif message['role']=='assistant'%}{{")) return false;
    s->reply_space = eat(&p, "' '+");
    if (!eat(&p, "message['content']")) return false;
    s->trim = eat(&p, "|trim");
    if (!eat(&p, "+eos_token")) return false;
    s->space_after = eat(&p, "+' '");
    if (!eat(&p, "}}")) return false;
    eat_raise(&p, "{%else%}{{raise_exception('", "')}}");
    return !strcmp(p, "{%endif%}{%endfor%}");
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
        for (size_t i = 0; i < s->n_system; i++) write_n(w, s->system[i] == APOSTROPHE ? "'" : s->system + i, 1);
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
            write_s(w, s->lead ? " [INST] " : "[INST] ");
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
    buf form = {0}, plain = {0}, dst = {0};
    if (!*tok->chat_template) return pith_fail(ctx, PITH_E_UNSUPPORTED, "chat: the model's file has no chat template; send a plain prompt instead");
    pith_status status = one_form(ctx, tok->chat_template, &form);
    if (status == PITH_OK) status = cut_tools(ctx, (const char *)form.p, &plain);
    if (status == PITH_OK) status = pith_text_buf_put(ctx, &plain, "", 1);
    if (status == PITH_OK) status = format(ctx, tok, (const char *)plain.p, messages, n_messages, open_reply, &dst);
    pith_free(ctx, form.p);
    pith_free(ctx, plain.p);
    if (status != PITH_OK) pith_free(ctx, dst.p);
    else *text = (char *)dst.p;
    return status;
}
