"""The error tree: every failure a user can meet, with its code, its place and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is wrong: a file, a 1-based line and column, and the text of that line."""

    file: str
    line: int = 0
    column: int = 0
    text: str = ""
    length: int = 1

    def __str__(self) -> str:
        parts = [self.file]
        if self.line:
            parts.append(str(self.line))
            if self.column:
                parts.append(str(self.column))
        return ":".join(parts)


class HeadraceError(Exception):
    """Root of all errors that Headrace raises on purpose.

    Attributes are for programs, ``str()`` is the one-line message; the command line adds place, caret and help.
    """

    exit_code = 1

    def __init__(self, code: str, what: str, *, place: Place | None = None, help: str = "") -> None:
        self.code = code
        self.what = what
        self.place = place
        self.help = help
        super().__init__(f"{code}: {what}" + (f" ({place})" if place else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """So that it comes whole out of another process, whatever arguments its class takes."""
        return _again, (type(self), self.args, vars(self))


def _again(kind: type[HeadraceError], args: tuple[Any, ...], state: dict[str, Any]) -> HeadraceError:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error


class DeclarationError(HeadraceError, ValueError):
    """A project's declarations cannot be read as written."""

    exit_code = 2


class ProjectErrors(HeadraceError, ValueError):
    """Everything that is wrong with a project, found at once."""

    exit_code = 2

    def __init__(self, errors: list[DeclarationError]) -> None:
        self.errors = errors
        first = f"{len(errors)} error(s) in the project; the first: {errors[0]}"
        super().__init__("HR0100", first, help="headrace check")


class SettingError(HeadraceError, ValueError):
    """A setting, a flag or a command's argument has a value that it cannot have."""

    exit_code = 2


class ContractError(HeadraceError, ValueError):
    """Data broke a promise that a declaration made about it."""


class OutsideError(HeadraceError, OSError):
    """A disk, a store, a lake or a server did not do what was asked; ``retry`` says whether trying again can help."""

    exit_code = 3

    def __init__(
        self, code: str, what: str, *, retry: bool = False, place: Place | None = None, help: str = ""
    ) -> None:
        super().__init__(code, what, place=place, help=help)
        self.retry = retry


class OutOfReachError(OutsideError):
    """A server cannot be reached or does not answer; nothing was wrong with what it was asked."""


class MissingExtraError(HeadraceError, ImportError):
    """An optional library is not installed; the help is the line that installs it."""

    exit_code = 3

    def __init__(self, extra: str, what: str, library: str) -> None:
        super().__init__("HR0701", f"{what} needs {library}", help=f"pip install 'headrace[{extra}]'")


class NotFoundError(HeadraceError, LookupError):
    """A name that was asked for does not exist here."""

    exit_code = 2


class ParameterError(HeadraceError, ValueError):
    """A query's parameter is missing, unknown or of the wrong type; ``parameter`` names it."""

    exit_code = 2

    def __init__(self, code: str, what: str, *, parameter: str, help: str = "") -> None:
        super().__init__(code, what, help=help)
        self.parameter = parameter


class AccessError(HeadraceError, PermissionError):
    """The caller is not known, or may not do this."""


class ConflictError(HeadraceError):
    """Another process is doing this, or did it first; ``exit_code`` 4."""

    exit_code = 4


class NotReadyError(HeadraceError):
    """The answer cannot be given now but can be later; ``retry_after`` is in seconds."""

    exit_code = 3

    def __init__(self, code: str, what: str, *, retry_after: int = 1, help: str = "") -> None:
        super().__init__(code, what, help=help)
        self.retry_after = retry_after


def nearest(word: str, known: Iterable[str]) -> str:
    """What to say of an unknown name: the nearest known one, or all of them."""
    import difflib  # noqa: PLC0415  costs 5 ms that only errors need to pay

    names = sorted(known)
    found = difflib.get_close_matches(word, names, n=1) or [name for name in names if word and name.startswith(word)]
    return f"did you mean '{found[0]}'?" if found else "one of " + ", ".join(names)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The page behind a code: what it means and what to do."""

    title: str
    means: str
    do: str


CODES: dict[str, Explanation] = {}


def _code(code: str, title: str, means: str, do: str) -> None:
    CODES[code] = Explanation(title, means, do)


# Codes from HR0100 on are about declarations.
_code(
    "HR0100",
    "The project has errors",
    "One or more declarations cannot be read; each is listed with its own code and place.",
    "Mend them from the top; `headrace check` lists them all again in under a second.",
)
_code(
    "HR0101",
    "Not a project folder",
    "A project is a folder with a `project.py` that creates one `Project`.",
    "Go to the folder, give it with `--project DIR`, or write a new one: `headrace init DIR`.",
)
_code(
    "HR0102",
    "project.py or routes.py failed",
    "Python could not run the file; the message is Python's own.",
    "Mend the line that is shown.",
)
_code(
    "HR0103",
    "A declaration is not complete or not valid",
    "A name, a type, a pattern or an option of a source, reference, rule or page is wrong.",
    "The help names what is allowed here.",
)
_code(
    "HR0104",
    "A name is declared twice",
    "Sources, references, silver datasets, marts and queries share one space of names.",
    "Rename one of the two.",
)
_code(
    "HR0105",
    "A type that a contract cannot have",
    "Contracts know VARCHAR, BOOLEAN, SMALLINT, INTEGER, BIGINT, DECIMAL(p,s), DOUBLE, DATE, TIMESTAMP and TIMESTAMPTZ.",
    "Use one of them; times of day and nested values are kept as VARCHAR.",
)
_code(
    "HR0106",
    "A page names something that is not there",
    "A tile's query, or a column that it draws, does not exist.",
    "The help shows the nearest name.",
)
_code(
    "HR0107",
    "A route of routes.py cannot be served",
    "Its query, one of its parameters or columns does not exist, or its path is another one's.",
    "The help shows the nearest name, or what is allowed here.",
)
_code(
    "HR0108",
    "A retention that nothing can tell",
    "`project.keep(mart, span)` names no mart, or one without a window of event time in its grain, or one that counts a source "
    "without a lateness, and so has no watermark to count from; or the span cannot be read.",
    "The help says what is missing. Without keep() a mart's windows are kept for good.",
)
_code(
    "HR0109",
    "tables.toml cannot be used",
    "It says what the partitions of serving tables are cut into; an entry cannot be read, or a query does not give a range of the "
    "column that it would cut by.",
    "`headrace apply` writes the file; the help says what an entry may be.",
)
_code(
    "HR0110",
    "A goal of freshness that nothing can tell",
    "`project.fresh(mart, within)` names no mart, or one that counts no source of facts, or one twice; or the time cannot be read.",
    "The help says what is missing.",
)
# Codes from HR0200 on are about SQL.
_code(
    "HR0201",
    "SQL that cannot be parsed",
    "The file is not one SELECT statement of the DuckDB dialect.",
    "Look at the caret; a file holds exactly one SELECT, with comments above it.",
)
_code(
    "HR0202",
    "A construct outside the SQL subset",
    "Headrace accepts constructs that mean the same in every engine; this one does not, or it reaches outside the project.",
    "The help says what to write instead.",
)
_code(
    "HR0203",
    "Unknown table",
    "A mart or dataset reads sources, references, silver datasets or marts of this project, and nothing else.",
    "The help shows the nearest name.",
)
_code(
    "HR0204",
    "Unknown column, or types that do not fit",
    "The engine's own binder refused the statement when given the declared columns.",
    "Compare the names with the contract; `headrace check` shows the columns of each dataset.",
)
_code(
    "HR0205",
    "An output hides a column",
    "An expression names another output whose name is also an input column; the engine would take the input column.",
    "Rename the output, or write the aggregate out in full.",
)
_code(
    "HR0206",
    "A division without nullif",
    "x / 0 is an error in one engine and NULL in another.",
    "Write `x / nullif(y, 0)`.",
)
_code(
    "HR0207",
    "A sum of floating point numbers",
    "The sum of DOUBLE values depends on their order, so batch and stream would differ.",
    "Declare the column as DECIMAL, or cast it to one inside the sum.",
)
_code(
    "HR0208",
    "A grain column may be NULL",
    "NULL cannot be part of a key in a serving table.",
    "Wrap it: `coalesce(column, '(none)')`, or declare the column NOT NULL.",
)
_code(
    "HR0209",
    "A grain column inside a finished value",
    "Such a value cannot be rolled up to a coarser grain.",
    "Write the condition into the aggregate: `sum(x) FILTER (WHERE category = 'a')`.",
)
_code(
    "HR0210",
    "Not the shape of a mart",
    "A mart is one SELECT of grain columns and aggregates FROM a dataset, with GROUP BY ALL.",
    "The help names the part that does not fit.",
)
_code(
    "HR0211",
    "Not the shape of a query",
    "A query is a roll-up of a mart, or the rows of a dataset or reference.",
    "The help names the part that does not fit.",
)
_code(
    "HR0212",
    "A finished value cannot be aggregated again",
    "The average of averages, or the sum of rates, is not the rate of the whole.",
    "Write `measure(column)`: Headrace merges the parts and finishes once.",
)
_code(
    "HR0213",
    "A parameter without a type",
    "A parameter takes its type from the column that it is compared with.",
    "Compare it with a column, or write `CAST($name AS DATE)`.",
)
_code(
    "HR0214",
    "A serving table cannot answer this query",
    "No partition and clustering key serves the predicates within a bounded fetch.",
    "The help says which predicate, and what to add.",
)
_code(
    "HR0215",
    "A join that can multiply rows",
    "The joined table is not unique on the columns of the join.",
    "Join a reference on its whole declared key, plus `valid_from <= t AND t < valid_to` where it has history.",
)
_code(
    "HR0216",
    "Circular definitions",
    "Datasets and marts read each other in a circle.",
    "Break the circle at one of the names.",
)
# Codes from HR0300 on are about data.
_code(
    "HR0301",
    "A file was rejected",
    "The whole file does not fit its contract (wrong header, wrong encoding, damaged); none of its rows were loaded.",
    "Send the file again under the same name once it is mended, or declare the format as it is.",
)
_code(
    "HR0302",
    "A file changed after it was landed",
    "The same name came with other bytes. The declared policy was applied (`new version` or `reject`).",
    "Nothing to do if the change was meant; else restore the old file and run again.",
)
_code(
    "HR0303",
    "A key is not unique",
    "A file of a reference has a key more than once. Joins still find one row per key, the last one of the file, so that "
    "nothing is counted twice; but which of them is right, only the sender knows.",
    "Mend the file and send it again, or declare the reference's real key.",
)
_code(
    "HR0304",
    "A number too large to keep exactly",
    "A sum or value does not fit the exact integer or decimal type that holds it; it is refused, never wrapped.",
    "Use a coarser unit, or a type with more digits.",
)
_code(
    "HR0305",
    "A replay that does not fit",
    "A corrected record names an origin that is not quarantined, or cannot be read.",
    "List the origins: `headrace quarantine ls`.",
)
_code(
    "HR0306",
    "A unit test of the project's SQL failed",
    "The rows that the mart or query gave are not the rows in the file of expected rows.",
    "Read the difference; mend the SQL or the expectation.",
)
# Codes from HR0400 on are about running.
_code(
    "HR0401",
    "Another run is going on",
    "One project has one run at a time; the second stops at once.",
    "Wait for the other one; a lock left by a killed process is taken over by itself.",
)
_code("HR0402", "No generation has been published yet", "There is nothing to answer from.", "`headrace run`")
_code(
    "HR0403",
    "The query is new or changed since the last run",
    "The published generation does not have the table that this query needs.",
    "`headrace run`",
)
_code(
    "HR0404",
    "The pointer moved",
    "Another run published while this one was working; nothing of this one is visible.",
    "`headrace run` again.",
)
_code(
    "HR0405",
    "Nothing to roll back to",
    "Only the predecessor of the current generation can be returned to, once, while no run is going on.",
    "Run forward: mend the cause and `headrace run`.",
)
_code(
    "HR0406",
    "The disk is full",
    "A write to the lake or the store failed; earlier answers stay as they were.",
    "Free some space and run again.",
)
_code(
    "HR0407",
    "The store or the lake cannot be used",
    "A file or table of Headrace cannot be opened, read or written.",
    "The message is the system's own; `headrace doctor` looks at the usual causes.",
)
_code(
    "HR0408",
    "The reader could not find a quiet moment",
    "Publications followed each other faster than the read could finish.",
    "Ask again.",
)
# Codes from HR0500 on are about asking.
_code(
    "HR0409",
    "An epoch is about to open",
    "A run is publishing a generation from which streaming starts anew; workers that start wait until it has.",
    "Wait until it has ended; where it was killed: `headrace run`.",
)
_code(
    "HR0410",
    "A stream and what is published have different code",
    "Contracts, SQL or horizon differ between the project of this process and the one that counted the rest.",
    "`headrace run` publishes what this project's code counts, also beside the stream; then start the worker again.",
)
_code(
    "HR0411",
    "Records are gone from the log",
    "The topic has deleted records, by its retention or because it was made again, that were not copied to bronze yet.",
    "Restore them if you can. `headrace land --accept-gaps` goes on behind them, and `headrace status` names what is missing.",
)
_code(
    "HR0412",
    "The log cannot be reached",
    "Kafka did not answer, or refused.",
    "The message is the client's own; see kafka.brokers and the security settings. What was not written is written by the next try.",
)
_code(
    "HR0413",
    "The stream cannot be caught up with",
    "A run opens an epoch, and so counts itself what the stream has counted, so that no answer goes back. For the last bit of "
    "it the workers have to pause; one of them did not, or the log does not have all of it any more.",
    "Where workers are dead, or that much may be lost: `headrace run --take-over`.",
)
_code(
    "HR0414",
    "The mart has no windows",
    "A backfill computes windows anew, and this mart has no date or time in its grain, or is pinned.",
    "`headrace reconcile MART` compares it whole and mends what differs; `headrace run --refit` fits a pinned one anew.",
)
_code(
    "HR0417",
    "The log was rewritten",
    "At an offset that was counted the topic has another record than then, or ends before it: it lost its end, as by a leader "
    "that had not all of it or a disk that was restored from a copy. What came since may be at offsets that count as read, so "
    "the stream does not go on.",
    "Restore the topic if you can. Else delete it and make it again: it has other lanes then, and what is produced once more is "
    "counted there. What was counted and not copied to bronze (`headrace status`) must be sent again.",
)
_code(
    "HR0418",
    "A record is isolated",
    "Three times whoever counted it was killed in the middle of it: of many records, of a few, and of this one alone. The rest of the "
    "lane goes on without it, in the stream at once and in the batch with the next run.",
    "`headrace status` names it. Look at it in the log, and at why the process died: memory, mostly.",
)
_code(
    "HR0419",
    "Two workers count one lane",
    "At the end of a range progress was beyond what this worker had written. It is right all the same: both write the same rows. "
    "It is a process that was stopped for longer than its session and goes on (then this ends by itself), or two groups.",
    "Look for a worker that nobody needs: `headrace status` names those that are registered.",
)
_code(
    "HR0421",
    "The inbox's server is out of reach",
    "No connection to the SFTP server, or no answer within `inbox.timeout` seconds, also after trying again.",
    "Look at `inbox.url`, at the network and at the server; then run again: nothing is lost, and a file that was half read is read anew.",
)
_code(
    "HR0422",
    "The inbox's server is not the one that is known",
    "It showed another key than `inbox.host_key`: the server was set up anew, or something else answers at its address.",
    "Ask its operator for the key that it has now, and compare. Only then change `inbox.host_key`.",
)
_code(
    "HR0423",
    "The inbox's server refused the login",
    "The user, the key or the password is wrong, or the account may not use SFTP. It is not tried again, so that no account is locked.",
    "Look at the user in `inbox.url`, and at `inbox.key` or `inbox.password`.",
)
_code(
    "HR0424",
    "The store is out of reach",
    "Too few nodes of Cassandra, or no PostgreSQL server, answered in time. Nothing is lost: what was not acknowledged is written again.",
    "It heals by itself once they are back; `headrace cluster status` shows which are not.",
)
_code(
    "HR0425",
    "The store refused",
    "The user or the password is wrong, or the role may not do this.",
    "Look at the user and the password in the settings; `headrace plan --role` prints the rights that it takes.",
)
_code(
    "HR0426",
    "A table of the store does not keep what answers rest on",
    "Somebody changed one of its options: rows would expire by the clock (`default_time_to_live`), or what one read showed the next one "
    "might not (`read_repair`). Nothing is read or written until that is undone.",
    "`headrace plan` names the table and the option; `headrace apply` sets it back, and `headrace reconcile` mends what was lost meanwhile.",
)
_code(
    "HR0427",
    "Somebody wrote to a table of the store by the clock",
    "A row that is kept for nothing else is gone, has another timestamp, or would expire: somebody deleted, truncated, wrote or restored "
    "rows without `USING TIMESTAMP`, or set a time to live. A deletion by the clock hides what is written after it, too.",
    "The next `headrace run` builds the table anew beside the old one, and so does `headrace reconcile`, which finds such writes elsewhere as well.",
)
_code(
    "HR0428",
    "A new table is not what gold says",
    "A table was built beside the one that answers, read back, and differs; so the pointer was not moved.",
    "Look for what else writes there: `headrace doctor`, `headrace table advise`. Then `headrace apply` again.",
)
_code(
    "HR0429",
    "A table that would not spread over the cluster",
    "It is large and has only a few partitions: a few nodes would do all the work, or no number of buckets makes its partitions small enough.",
    'Ask by a column with more values, in the query\'s WHERE; or accept that each read asks many partitions: `bucket = "salt 16"` in tables.toml.',
)
_code("HR0501", "Unknown query", "No query of this project has that name.", "`headrace query` lists them.")
_code(
    "HR0502",
    "A parameter is missing, unknown or not valid",
    "Parameters are named and typed by the query's SQL.",
    "`headrace query NAME --help` shows them with examples.",
)
_code(
    "HR0503",
    "The cursor does not belong to this question",
    "A cursor continues exactly the question that gave it.",
    "Start again without a cursor.",
)
_code(
    "HR0504",
    "The range is too wide",
    "The partitions of this table are cut by month or day, and a range of so many of them would be as many reads, mostly of nothing.",
    "Ask for a narrower range: 400 months, or days.",
)
# Codes from HR0600 on are about settings and access.
_code(
    "HR0601",
    "Unknown or invalid setting",
    "Settings are listed by `headrace config show`.",
    "The help shows the nearest name.",
)
_code(
    "HR0602",
    "No valid credentials",
    "The API needs a user and password, or a key, and that it is for what is asked.",
    "`headrace user add NAME` or `headrace key create NAME`.",
)
_code(
    "HR0603",
    "Not on this address",
    "Plain HTTP is served on loopback only.",
    "Put TLS in front, or say `--insecure-http` if the network is yours.",
)
_code(
    "HR0604",
    "Too many failures",
    "Logins failed too often from here or for this user; the delay doubles with each.",
    "Wait for the time in Retry-After.",
)
_code("HR0605", "Unknown error code", "No error has this code.", "`headrace explain` lists all codes.")
_code("HR0606", "Not found", "This path does not exist.", "`/openapi.json` lists all paths.")
_code("HR0607", "Too large", "A request may not be this long.", "Ask for less.")
_code("HR0608", "Not allowed", "This path does not know that method.", "The Allow header lists the methods.")
_code(
    "HR0621",
    "Nothing that skew can look at",
    "`headrace skew` looks at a query, a mart, a dataset, a source, or a CSV or Parquet file with a header.",
    "The help shows the nearest name. A pattern of files stands in quotes.",
)
_code(
    "HR0622",
    "A key or a ring that skew cannot work out",
    "A column of `--key`, `--time` or `--other` is not there, has no CQL type that a key can have, or there are more replicas than nodes.",
    "The help names the columns, types or numbers that would do. Types: text, bigint, int, smallint, tinyint, boolean, timestamp, date, double, uuid.",
)
_code(
    "HR0623",
    "No row has a key",
    "Every row has an empty value in a column of the key, and no wide-column store takes such a row.",
    "Choose another `--key`.",
)
_code(
    "HR0701",
    "An optional library is missing",
    "This part of Headrace needs a library that is not installed.",
    "The help is the line that installs it.",
)
_code("HR0999", "An error inside Headrace", "This should not happen.", "Please report it with the file that is named.")
