"""How each local model is asked: chat templates that its server renders around the last message.

The caller sends the bare question to every model, as it would to hosted ones; what a model needs besides (a system
line, worked examples) belongs to the model. None of the examples is in the question set.
"""

from __future__ import annotations

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("What is the capital of Belgium?", "Brussels"),
    ("What is the opposite of noisy?", "silent"),
    ("What is 3 + 14?", "17"),
    ("What is the plural of berry?", "berries"),
    ('Is this review positive or negative? "The colours faded in a week."', "negative"),
    ("What is the currency of Ukraine?", "Hryvnia"),
    ("Which language is spoken in Romania?", "Romanian"),
    ("On which continent is Tunisia?", "Africa"),
    ("What is the past tense of draw?", "drew"),
    ("What is a young rabbit called?", "kit"),
    ("What colour is a tomato?", "red"),
    ("What is the chemical symbol of argon?", "Ar"),
    ("What is the French word for window?", "fenêtre"),
    ("Is a bee an animal, a plant or a tool?", "animal"),
    ("What comes after the letter C?", "D"),
    ("What is 6 times 11?", "66"),
    ("What is 18 - 5?", "13"),
    ("What is 47 + 26?", "73"),
    ('Is this review positive or negative? "A joy from start to end."', "positive"),
    ("What is the opposite of deep?", "shallow"),
    ("What is the capital of Bolivia?", "Sucre"),
    ("What is the past tense of rise?", "rose"),
    ("What is the plural of thief?", "thieves"),
    ("What is the French word for tree?", "arbre"),
    ("What is the chemical symbol of barium?", "Ba"),
)

# A template loses its last line break, so that one is written as an expression.
CHAT = (
    "<|im_start|>system\nAnswer with one word.<|im_end|>\n"
    "<|im_start|>user\n{{ messages[-1]['content'] }}<|im_end|>\n"
    "<|im_start|>assistant{{ '\\n' }}"
)

COMPLETION = (
    "{{ bos_token }}"
    + "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in EXAMPLES)
    + "Question: {{ messages[-1]['content'] }}\nAnswer:"
)
