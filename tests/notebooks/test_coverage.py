"""What the course must teach stands in its lessons' own text, none of it only in a helper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from course_kit.notebooks.pages import find_lessons, read_as_stored

LESSONS = {path.stem[:2]: path for path in find_lessons(Path(__file__).parents[2] / "notebooks")}

# By lesson: what its cells must show, as patterns. Older pages on this subject teach all of it.
TAUGHT = {
    "00": [
        r"huggingface\.co/models",
        r"[Dd]ata ?sets",
        r"Spaces",
        r"private|leave your machine|stays? on your machine",
        r"%pip install",
        r"ipywidgets",
        r"--index-url|pytorch\.org",
        r"load_dotenv\(",
        r"os\.environ\[",
        r"HUGGINGFACEHUB_API_TOKEN",
        r"HF_TOKEN",
        r"LANGCHAIN_TRACING_V2",
        r"LANGCHAIN_API_KEY",
        r"LANGCHAIN_ENDPOINT",
        r"LANGCHAIN_PROJECT",
        r"LANGSMITH_TRACING",
        r"HF_HOME",
    ],
    "01": [
        r"langchain\.llms",
        r"langchain_community\.llms",
        r"langchain_huggingface\.llms",
        r"langchain\.prompts",
        r"HuggingFacePipeline\.from_model_id\(",
        r"task=\"text-generation\"",
        r"pipeline_kwargs=\{\"max_new_tokens\"",
        r"AutoTokenizer\.from_pretrained\(",
        r"AutoModelForCausalLM\.from_pretrained\(",
        r"gpt2",
        r"Phi-3-mini-4k-instruct",
        r"bloom-1b7",
        r"xformers",
        r"SDPA|sdpa",
        r"HuggingFaceEndpoint\(",
        r"HuggingFaceHub",
        r"safetensors",
        r"GGUF|gguf",
    ],
    "02": [
        r"licen[cs]e",
        r"from_pretrained\([^)]*token=",
        r"load_in_4bit",
        r"flash_attention_2",
        r"HuggingFacePipeline\(pipeline=",
        r"for \w+ in \w+\.stream\(",
        r"from huggingface_hub import [^\n]*login|huggingface_hub\.login",
        r"40[13]",
    ],
    "03": [
        r"PromptTemplate\.from_template\(",
        r"Let's think step by step",
        r"electroencephalography",
        r"prompt \| ",
        r"\.bind\(skip_prompt=True\)|skip_prompt=True",
        r"return_full_text",
        r"stop_strings",
        r"\.stream\(",
        r"<\|system\|>",
        r"ChatHuggingFace\(llm=",
        r"StrOutputParser\(",
        r"trim_messages",
        r"MessagesPlaceholder",
        r"temperature",
    ],
    "04": [
        r"do_sample=True",
        r"temperature=0",
        r"top_k",
        r"top_p",
        r"seed",
        r"past_key_values",
        r"prefill",
        r"time to first token",
    ],
    "05": [
        r"device=0",
        r"device=-1",
        r"device_map=\"auto\"",
        r"gpu_chain = prompt \| ",
        r"StrOutputParser\(",
        r"[Aa]ccelerate",
        r"Phi-3-mini|bloom",
    ],
    "06": [
        r"batch_size=2",
        r"\"max_length\": 64",
        r"\"temperature\": 0",
        r"\.bind\(stop=",
        r"What is the number \{i\} in French\?",
        r"\.batch\(",
        r"<answer>",
        r"return_exceptions=True",
        r"batch_as_completed",
        r"max_concurrency",
    ],
    "07": [
        r"--upgrade-strategy eager",
        r"backend=\"openvino\"",
        r"\"device\": \"CPU\"",
        r"\"device\": \"GPU\"",
        r"\"PERFORMANCE_HINT\": \"LATENCY\"",
        r"\"NUM_STREAMS\": \"1\"",
        r"\"CACHE_DIR\": \"\"",
        r"ov_chain = prompt \| ov_llm",
        r"\"KV_CACHE_PRECISION\": \"u8\"",
        r"\"DYNAMIC_QUANTIZATION_GROUP_SIZE\": \"32\"",
        r"GenAI",
    ],
    "08": [
        r"optimum-cli export openvino",
        r"--weight-format int8",
        r"--weight-format int4",
        r"ov_model_dir",
        r"backend=\"openvino\"",
        r"footprint",
        r"answers sooner|answers\s+sooner",
    ],
    "09": [
        r"\.map_batches\(",
        r"ActorPoolStrategy\(size=",
        r"CheckpointConfig",
        r"run_on_ray\(",
        r"retry_errors=True",
        r"doubled",
        r"ray up",
        r"ray job submit",
        r"FROM rayproject/ray",
        r"PRICE_PER_HOUR",
        r"do not\*\* scale out",
        r"vLLMEngineProcessorConfig\(",
    ],
}
LINKS = {
    "00": ["huggingface.co/models", "pytorch.org"],
    "01": ["docs.langchain.com", "huggingface.co"],
    "02": ["huggingface.co/docs"],
    "03": ["docs.langchain.com|python.langchain.com"],
    "04": ["huggingface.co"],
    "05": ["accelerate"],
    "06": ["huggingface.co|langchain.com"],
    "07": ["docs.openvino.ai", "openvino_notebooks|openvino-notebooks"],
    "08": ["optimum"],
    "09": ["docs.ray.io", "docs.vllm.ai"],
}


def cells(lesson: str) -> str:
    return "\n".join(cell.source for cell in read_as_stored(LESSONS[lesson]).cells)


@pytest.mark.parametrize(
    ("lesson", "pattern"), [(lesson, each) for lesson, found in TAUGHT.items() for each in found]
)
def test_a_lesson_teaches_it(lesson: str, pattern: str) -> None:
    """An idea, option or variable stands in the text of its lesson."""
    assert re.search(pattern, cells(lesson)), f"lesson {lesson} lost {pattern}"


@pytest.mark.parametrize("lesson", sorted(LESSONS))
def test_a_lesson_has_its_frame(lesson: str) -> None:
    """Contents whose links lead to headings, what it needs and costs, references, few words."""
    nb = read_as_stored(LESSONS[lesson])
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    anchors = {line.lstrip("# ").strip().replace(" ", "-") for line in text.splitlines()
               if line.startswith("#")}  # fmt: skip
    anchors |= set(re.findall(r'id="([^"]+)"', text))
    linked = re.findall(r"\]\(#([^)\s]+)\)", text)
    assert linked, "there are no contents"
    assert set(linked) <= anchors, set(linked) - anchors
    assert "References" in anchors
    assert re.search(r"What it costs|A run takes", text)
    assert "minutes" in text
    words = re.findall(r"\S*[^\W\d_]\S*", text)  # with a letter in them: no bars of tables
    assert len(words) <= 1_500, len(words)


@pytest.mark.parametrize(
    ("lesson", "link"), [(lesson, link) for lesson, all_ in LINKS.items() for link in all_]
)
def test_a_lesson_has_its_links(lesson: str, link: str) -> None:
    """References lead to the projects' own pages."""
    assert re.search(rf"https://[^\s)]*({link})", cells(lesson))
