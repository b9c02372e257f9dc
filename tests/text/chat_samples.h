/* Chat templates as models of these families publish them, and what Jinja2 3.1 makes of three conversations (as in
 * test_chat.c), each with and without opening the reply: trim_blocks and lstrip_blocks on, bos "<s>", eos "</s>".
 * NULL: the template raises an exception. */
static const sample samples[] = {
    { /* SmolLM2-Instruct */
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI "
        "assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
        "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        {
         /* A + */ "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
             "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
         /* A */ "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
             "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n",
         /* B + */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
         /* B */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n",
         /* C + */ "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
             "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n<|im_start|>assistant\n",
         /* C */ "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
             "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n",
        }},
    { /* Qwen2-Instruct */
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful "
        "assistant.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% "
        "endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        {
         /* A + */ "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
         /* A */ "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n",
         /* B + */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
         /* B */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n",
         /* C + */ "<|im_start|>system\nYou are a helpful "
             "assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n<|im_start|>assistant\n",
         /* C */ "<|im_start|>system\nYou are a helpful "
             "assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n",
        }},
    { /* plain ChatML, spread over lines */
        "{%- for message in messages %}\n    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n{%- endfor "
        "%}\n{%- if add_generation_prompt %}\n    {{- \"<|im_start|>assistant\\n\" }}\n{%- endif %}\n",
        {
         /* A + */ "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
         /* A */ "<|im_start|>user\nHi<|im_end|>\n",
         /* B + */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
         /* B */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n",
         /* C + */ "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n<|im_start|>assistant\n",
         /* C */ "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n",
        }},
    { /* ChatML without opening a reply */
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}",
        {
         /* A + */ "<|im_start|>user\nHi<|im_end|>\n",
         /* A */ "<|im_start|>user\nHi<|im_end|>\n",
         /* B + */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n",
         /* B */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n",
         /* C + */ "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n",
         /* C */ "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n",
        }},
    { /* Qwen2.5-Instruct, its tool parts shortened */
        "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- for tool in tools %}\n        {{- tool | tojson }}\n    {%- endfor "
        "%}\n{%- else %}\n    {%- if messages[0]['role'] == 'system' %}\n        {{- '<|im_start|>system\\n' + messages[0]['content'] + "
        "'<|im_end|>\\n' }}\n    {%- else %}\n        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
        "assistant.<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n{%- for message in messages %}\n    {%- if (message.role == "
        "\"user\") or (message.role == \"system\" and not loop.first) or (message.role == \"assistant\" and not message.tool_calls) %}\n   "
        "     {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- elif message.role == \"tool\" "
        "%}\n        {{- '<|im_start|>user' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- "
        "'<|im_start|>assistant\\n' }}\n{%- endif %}\n",
        {
         /* A + */ "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
             "assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
         /* A */ "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
             "assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n",
         /* B + */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
         /* B */ "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n  Hi there\n<|im_end|>\n<|im_start|>assistant\n Hello! "
             "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n",
         /* C + */ "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
             "assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n<|im_start|>assistant\n",
         /* C */ "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
             "assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo\xC2\xA0<|im_end|>\n",
        }},
    { /* Llama 3 Instruct */
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + "
        "content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ "
        "'<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
        {
         /* A + */ "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* A */ "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
         /* B + */ "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi "
             "there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* B */ "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi "
             "there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>",
         /* C + */ "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* C */ "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>",
        }},
    { /* Llama 3 Instruct as first published: the reply is always opened */
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content "
        "%}{% endif %}{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
        {
         /* A + */ "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* A */ "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* B + */ "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi "
             "there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* B */ "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi "
             "there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* C + */ "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* C */ "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        }},
    { /* Llama 3.1 Instruct, its tool parts shortened */
        "{{- bos_token }}\n{%- if custom_tools is defined %}\n    {%- set tools = custom_tools %}\n{%- endif %}\n{%- if not "
        "tools_in_user_message is defined %}\n    {%- set tools_in_user_message = true %}\n{%- endif %}\n{%- if not date_string is defined "
        "%}\n    {%- set date_string = \"26 Jul 2024\" %}\n{%- endif %}\n{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- "
        "endif %}\n\n{#- The system message goes {{ apart }} #}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = "
        "messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n{%- "
        "endif %}\n\n{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{%- if builtin_tools is defined or tools is not none "
        "%}\n    {{- \"Environment: ipython\\n\" }}\n{%- endif %}\n{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n{{- \"Today Date: "
        "\" + date_string + \"\\n\\n\" }}\n{%- if tools is not none and not tools_in_user_message %}\n    {{- \"Don't use "
        "variables.\\n\\n\" }}\n{%- endif %}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}\n{%- if tools_in_user_message and not tools is "
        "none %}\n    {%- if messages | length != 0 %}\n        {%- set messages = messages[1:] %}\n    {%- else %}\n        {{- "
        "raise_exception(\"Cannot put tools in the first user message when there's no first user message!\") }}\n    {%- endif %}\n{%- "
        "endif %}\n{%- for message in messages %}\n    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in "
        "message) %}\n        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + "
        "'<|eot_id|>' }}\n    {%- elif 'tool_calls' in message %}\n        {{- \"{\" }}\n    {%- elif message.role == \"tool\" or "
        "message.role == \"ipython\" %}\n        {{- \"}\" }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- "
        "'<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
        {
         /* A + */ "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
             "2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* A */ "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
             "2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
         /* B + */ "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nBe "
             "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi "
             "there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* B */ "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nBe "
             "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi "
             "there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>",
         /* C + */ "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
             "2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
         /* C */ "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
             "2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>",
        }},
    { /* Llama 2 Chat */
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% "
        "else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if "
        "(message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
        "user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = "
        "'<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% "
        "endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == "
        "'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        {
         /* A + */ "<s>[INST] Hi [/INST]",
         /* A */ "<s>[INST] Hi [/INST]",
         /* B + */ "<s>[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\n  Hi there [/INST] Hello! </s><s>[INST] Bye [/INST]",
         /* B */ "<s>[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\n  Hi there [/INST] Hello! </s><s>[INST] Bye [/INST]",
         /* C + */ "<s>[INST] Hi [/INST] Ho </s>",
         /* C */ "<s>[INST] Hi [/INST] Ho </s>",
        }},
    { /* Mistral 7B Instruct v0.2 */
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ "
        "raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == "
        "'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + "
        "eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
        {
         /* A + */ "<s>[INST] Hi [/INST]",
         /* A */ "<s>[INST] Hi [/INST]",
         /* B + */ NULL,
         /* B */ NULL,
         /* C + */ "<s>[INST] Hi [/INST]Ho\xC2\xA0</s>",
         /* C */ "<s>[INST] Hi [/INST]Ho\xC2\xA0</s>",
        }},
    { /* Mistral 7B Instruct v0.1 */
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ "
        "raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == "
        "'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + "
        "eos_token + ' ' }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
        {
         /* A + */ "<s>[INST] Hi [/INST]",
         /* A */ "<s>[INST] Hi [/INST]",
         /* B + */ NULL,
         /* B */ NULL,
         /* C + */ "<s>[INST] Hi [/INST]Ho\xC2\xA0</s> ",
         /* C */ "<s>[INST] Hi [/INST]Ho\xC2\xA0</s> ",
        }},
    { /* Mistral 7B Instruct v0.3, its tool parts shortened */
        "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n    {%- set "
        "loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n{%- if not tools is defined "
        "%}\n    {%- set tools = none %}\n{%- endif %}\n{%- set user_messages = loop_messages | selectattr(\"role\", \"equalto\", "
        "\"user\") | list %}\n{%- set ns = namespace() %}\n{%- set ns.index = 0 %}\n{%- for message in loop_messages %}\n    {%- if not "
        "(message.role == \"tool\" or message.role == \"tool_results\" or (message.tool_calls is defined and message.tool_calls is not "
        "none)) %}\n        {%- if (message[\"role\"] == \"user\") != (ns.index % 2 == 0) %}\n            {{- raise_exception(\"After the "
        "optional system message, roles must alternate\") }}\n        {%- endif %}\n        {%- set ns.index = ns.index + 1 %}\n    {%- "
        "endif %}\n{%- endfor %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if message[\"role\"] == \"user\" %}\n   "
        "     {%- if tools is not none and (message == user_messages[-1]) %}\n            {{- \"[AVAILABLE_TOOLS] [\" }}\n        {%- "
        "endif %}\n        {%- if loop.last and system_message is defined %}\n            {{- \"[INST] \" + system_message + \"\\n\\n\" + "
        "message[\"content\"] + \"[/INST]\" }}\n        {%- else %}\n            {{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}\n "
        "       {%- endif %}\n    {%- elif message.tool_calls is defined and message.tool_calls is not none %}\n        {{- \"[TOOL_CALLS] "
        "[\" }}\n    {%- elif message[\"role\"] == \"assistant\" %}\n        {{- \" \" + message[\"content\"]|trim + eos_token}}\n    {%- "
        "elif message[\"role\"] == \"tool_results\" or message[\"role\"] == \"tool\" %}\n        {{- \"[TOOL_RESULTS]\" }}\n    {%- else "
        "%}\n        {{- raise_exception(\"Only user and assistant roles are supported, with the exception of an initial optional system "
        "message!\") }}\n    {%- endif %}\n{%- endfor %}\n",
        {
         /* A + */ "<s>[INST] Hi[/INST]",
         /* A */ "<s>[INST] Hi[/INST]",
         /* B + */ "<s>[INST]   Hi there\n[/INST] Hello!</s>[INST]  Be brief. \n\nBye[/INST]",
         /* B */ "<s>[INST]   Hi there\n[/INST] Hello!</s>[INST]  Be brief. \n\nBye[/INST]",
         /* C + */ "<s>[INST] Hi[/INST] Ho</s>",
         /* C */ "<s>[INST] Hi[/INST] Ho</s>",
        }},
    { /* the same without tools */
        "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n    {%- set "
        "loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n\n{{- bos_token }}\n{%- for "
        "message in loop_messages %}\n    {%- if message[\"role\"] == \"user\" %}\n        {%- if loop.last and system_message is defined "
        "%}\n            {{- \"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}\n        {%- else %}\n      "
        "      {{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}\n        {%- endif %}\n    {%- elif message[\"role\"] == "
        "\"assistant\" %}\n        {{- \" \" + message[\"content\"]|trim + eos_token}}\n    {%- endif %}\n{%- endfor %}\n",
        {
         /* A + */ "<s>[INST] Hi[/INST]",
         /* A */ "<s>[INST] Hi[/INST]",
         /* B + */ "<s>[INST]   Hi there\n[/INST] Hello!</s>[INST]  Be brief. \n\nBye[/INST]",
         /* B */ "<s>[INST]   Hi there\n[/INST] Hello!</s>[INST]  Be brief. \n\nBye[/INST]",
         /* C + */ "<s>[INST] Hi[/INST] Ho</s>",
         /* C */ "<s>[INST] Hi[/INST] Ho</s>",
        }},
    { /* Mistral 7B Instruct v0.2 with a system message */
        "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n    {%- set "
        "loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n\n{{- bos_token }}\n{%- for "
        "message in loop_messages %}\n    {%- if message[\"role\"] == \"user\" %}\n        {%- if loop.first and system_message is defined "
        "%}\n            {{- \" [INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \" [/INST]\" }}\n        {%- else %}\n    "
        "        {{- \" [INST] \" + message[\"content\"] + \" [/INST]\" }}\n        {%- endif %}\n    {%- elif message[\"role\"] == "
        "\"assistant\" %}\n        {{- \" \" + message[\"content\"] + eos_token}}\n    {%- endif %}\n{%- endfor %}\n",
        {
         /* A + */ "<s> [INST] Hi [/INST]",
         /* A */ "<s> [INST] Hi [/INST]",
         /* B + */ "<s> [INST]  Be brief. \n\n  Hi there\n [/INST]  Hello! </s> [INST] Bye [/INST]",
         /* B */ "<s> [INST]  Be brief. \n\n  Hi there\n [/INST]  Hello! </s> [INST] Bye [/INST]",
         /* C + */ "<s> [INST] Hi [/INST] Ho\xC2\xA0</s>",
         /* C */ "<s> [INST] Hi [/INST] Ho\xC2\xA0</s>",
        }},
};
