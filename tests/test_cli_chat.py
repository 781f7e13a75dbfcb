"""`lr run` and `lr compare`: answers as they come, how fast they came, and every way in which they can end."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from threading import Event

import pytest

from llamarouter.cli.main import main
from tests.router_double import Reply, RouterDouble, chat_reply, chunk, error, routing
from tests.terminal import Terminal

CHAT = "POST /v1/chat/completions"
Captured = pytest.CaptureFixture[str]


def lr(router: RouterDouble, *arguments: str) -> int:
    return main([arguments[0], "--url", router.url, *arguments[1:]])


def test_run_prints_the_answer_and_the_speed_apart(capsys: Captured) -> None:
    with routing({CHAT: chat_reply("The ", "sky\x1b ", "is", reasoning="hmm")}) as router:
        asked = ("run", "small", "Why?", "--system", "Be brief.", "--temp", "0", "-n", "9")
        assert lr(router, *asked) == 0
    assert router.asked[0].body == {
        "model": "small",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "max_tokens": 9,
    }
    shown = capsys.readouterr()
    assert shown.out == "The sky\x1b is\n"  # a file gets what the model wrote, without its thoughts
    assert shown.err.startswith("[3 tokens, 42.5 tokens/s, first after 0.")


def test_run_says_nothing_about_sampling_unless_it_was_told(capsys: Captured) -> None:
    with routing({CHAT: chat_reply("a")}) as router:
        assert lr(router, "run", "small", "Why?") == 0
    assert set(router.asked[0].body) == {"model", "messages", "stream", "stream_options"}


def test_run_for_programs(capsys: Captured) -> None:
    usage = {"completion_tokens": 5, "prompt_tokens": 11}
    with routing({CHAT: chat_reply("a", "b", reasoning="hmm", usage=usage)}) as router:
        assert lr(router, "run", "small", "Why?", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["content"], told["reasoning"], told["finish_reason"]) == ("ab", "hmm", "stop")
    assert (told["tokens"], told["prompt_tokens"], told["tokens_per_second"]) == (2, 11, 42.5)
    assert told["estimated"] is False


def test_run_takes_the_prompt_from_standard_input(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("From a file.\n"))
    with routing({CHAT: chat_reply("a")}) as router:
        assert lr(router, "run", "small") == 0
        assert router.asked[0].body["messages"][0]["content"] == "From a file.\n"
        assert lr(router, "run", "small", "-") == 2
    assert "no prompt: give one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reply", "line", "out"),
    [
        (
            Reply(pieces=[chunk({"content": "Half"})], cut=True),
            "lr: the connection to {url} broke off",
            "Half\n",
        ),
        (Reply(pieces=[chunk({"content": "Half"})]), "lr: the answer broke off before its end", "Half\n"),
        (
            Reply(pieces=[chunk({"content": "Half"}), f"data: {json.dumps(error(502, 'model_crashed', 'gone'))}\n\n"]),
            "lr: gone",
            "Half\n",
        ),
        (Reply(error(503, "queue_timeout", "waited 300 s"), 503), "lr: waited 300 s", ""),
        (Reply("oops", 500), "lr: the router answered 500 Internal Server Error", ""),
        (
            Reply(error(401, "invalid_api_key", "Invalid API Key"), 401),
            "lr: Invalid API Key; set LR_API_KEY to a key of this router",
            "",
        ),
        (
            Reply(error(404, "model_not_found", "model 'smal' not found"), 404),
            "lr: there is no model 'smal'; did you mean small?",
            "",
        ),
    ],
)
def test_an_answer_that_fails_is_never_a_short_one(reply: Reply, line: str, out: str, capsys: Captured) -> None:
    with routing({CHAT: reply}) as router:
        assert lr(router, "run", "smal", "Why?") == 1
    assert capsys.readouterr() == (out, line.format(url=router.url) + "\n")


def test_an_engine_that_tells_no_figures_is_counted_and_said_so(capsys: Captured) -> None:
    pieces = [chunk({"content": "a"}), ": still here\n\n", chunk({"content": "b"}), chunk({}, "length")]
    with routing({CHAT: Reply(pieces=pieces)}) as router:
        assert lr(router, "run", "small", "Why?") == 0
    shown = capsys.readouterr().err
    assert shown.startswith("[~2 tokens, ~")
    assert shown.endswith(", cut at its length limit]\n")


def test_an_interrupt_hangs_up_and_is_exit_code_130() -> None:
    hold = Event()
    with routing({CHAT: Reply(pieces=[chunk({"content": "Once upon"})], hold=hold)}) as router:
        command = [sys.executable, "-m", "llamarouter", "run", "small", "Why?", "--url", router.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read(9) == b"Once upon"
            process.send_signal(2)
            assert process.communicate(timeout=10) == (b"\n", b"")
            assert process.returncode == 130
        assert router.hung_up.wait(5)


def test_a_conversation_remembers_what_was_answered() -> None:
    hold = Event()
    replies = [
        chat_reply("I am ", "fine"),
        Reply(pieces=[chunk({"content": "An end"})], hold=hold),
        Reply(error(502, "model_crashed", "it crashed"), 502),
        chat_reply("ok"),
        chat_reply("new"),
    ]
    with routing({CHAT: replies}) as router:
        terminal = Terminal("run", "small", "--url", router.url)
        terminal.until(">>> ")
        terminal.type("How are you?\n")
        terminal.until("I am fine\r\n")
        assert "2 tokens, 42.5 tokens/s" in terminal.until(">>> ")
        terminal.type("Count.\n")
        terminal.until("An end")
        terminal.type("\x03")  # ends the answer, not the chat
        terminal.until(">>> ")
        assert router.hung_up.wait(5)
        terminal.type("Crash.\n")
        terminal.until("lr: it crashed")
        terminal.until(">>> ")
        terminal.type("Go on.\n")
        terminal.until("ok\r\n")
        terminal.until(">>> ")
        terminal.type("/clear\n")
        terminal.until("forgotten")
        terminal.until(">>> ")
        terminal.type("Anew.\n")
        terminal.until("new\r\n")
        terminal.until(">>> ")
        terminal.type("\x04")
        terminal.end()
    assert terminal.process.returncode == 0
    said = [[message["content"] for message in asked.body["messages"]] for asked in router.asked]
    assert said == [
        ["How are you?"],
        ["How are you?", "I am fine", "Count."],
        ["How are you?", "I am fine", "Crash."],
        ["How are you?", "I am fine", "Go on."],
        ["Anew."],
    ]


def of(model: str) -> str:
    return f"{CHAT} {model}"


def test_compare_asks_both_at_once_and_shows_one_after_the_other_where_nobody_watches(capsys: Captured) -> None:
    with routing({of("a"): chat_reply("one ", "two"), of("b"): chat_reply("three", reasoning="hmm")}) as router:
        assert lr(router, "compare", "a", "b", "Count.", "--system", "S", "--temp", "0", "-n", "5") == 0
    bodies = router.bodies("/v1/chat/completions")
    assert sorted(body["model"] for body in bodies) == ["a", "b"]
    assert {json.dumps({**body, "model": ""}) for body in bodies} == {json.dumps({**bodies[0], "model": ""})}
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[1], lines[4], lines[5]] == ["== a", "one two", "== b", "three"]
    assert lines[2].startswith("[2 tokens, 42.5 tokens/s, first after ")
    assert lines[6].startswith("[1 tokens, 42.5 tokens/s, first after ")


def test_compare_really_asks_at_the_same_time() -> None:
    hold = Event()
    slow = Reply(pieces=[chunk({"content": "slow"})], hold=hold)
    with routing({of("a"): slow, of("b"): chat_reply("quick")}) as router:
        command = [sys.executable, "-m", "llamarouter", "compare", "a", "b", "Count.", "--url", router.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert router.asked_for("a").wait(10)
            assert router.asked_for("b").wait(10)  # while the first still answers
            process.send_signal(2)
            assert process.communicate(timeout=10)[1] == b""
            assert process.returncode == 130
        assert router.hung_up.wait(5)


def test_compare_shows_the_one_that_answered_and_fails_for_the_other(capsys: Captured) -> None:
    refusal = Reply(error(404, "model_not_found", "model 'smal' not found"), 404)
    with routing({of("a"): chat_reply("fine"), of("smal"): refusal}) as router:
        assert lr(router, "compare", "a", "smal", "Count.") == 1
        shown = capsys.readouterr()
        assert lr(router, "compare", "a", "smal", "Count.", "--json") == 1
    assert "fine\n" in shown.out
    assert shown.err == "lr: smal: there is no model 'smal'; did you mean small?\n"
    told = json.loads(capsys.readouterr().out)["answers"]
    assert [(answer["model"], answer["content"]) for answer in told] == [("a", "fine"), ("smal", "")]
    assert told[0]["tokens_per_second"] == 42.5
    assert told[1]["error"] == "there is no model 'smal'; did you mean small?"


def test_compare_draws_two_columns_on_a_terminal() -> None:
    with routing({of("a"): chat_reply("left ", "side"), of("b"): chat_reply("right ", "side")}) as router:
        terminal = Terminal("compare", "a", "b", "Count.", "--url", router.url)
        shown = terminal.end()
    assert terminal.process.returncode == 0
    rows = [line for line in shown.splitlines() if "left side" in line]
    assert "right side" in rows[-1]
    assert "42.5 tokens/s" in shown


def test_a_wait_for_a_cold_model_is_shown_to_people_and_gone_with_the_first_word() -> None:
    loading = {"id": "small", "status": {"value": "loading", "progress": {"value": 0.43}}}
    queued = {"id": "small", "status": {"value": "loaded"}, "lr": {"waiting": 3}}
    ready = Event()
    answer = chat_reply("Hello")
    answer.after = ready
    with routing({CHAT: answer, "GET /v1/models/small": [Reply(loading), Reply(queued)]}) as router:
        terminal = Terminal("run", "small", "Hi", "--url", router.url)
        terminal.until("small: loading 43%")
        terminal.until("small: waiting for a free slot, 3 in the queue")
        ready.set()
        shown = terminal.end()
    assert "\r\x1b[KHello\r\n" in shown
    assert "small:" not in shown.partition("Hello")[2]


def test_a_conversation_needs_a_terminal() -> None:
    with routing({}) as router:
        terminal = Terminal("run", "small", "--url", router.url, stdout=subprocess.DEVNULL)
        assert "a conversation needs a terminal" in terminal.end()
    assert terminal.process.returncode == 2
