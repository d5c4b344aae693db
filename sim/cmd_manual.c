/* intentkv manual: the manual pages in man(7), from the tables of commands and their options. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "config.h"
#include "sim/command.h"
#include "sim/command_text.h"
#include "sim/plot.h"

static const struct command_option options[] = {
    {"output", 'o', "FOLDER", "/", NULL,
     "write every page into a folder that is there: intentkv.1, intentkv-run.1, ..."},
    {.name = NULL},
};

const struct command command_manual = {
    .name = "manual",
    .summary = "print a manual page",
    .arguments = "[COMMAND]",
    .words = {"<commands>"},
    .examples = "intentkv manual sweep | man -l -\tread the page of a program that is not installed\n"
		"intentkv manual -o man\tevery page as a file\n",
    .about = "Pages are in the macros of man(7), made from what `--help` prints. Without a command it is the page of "
	     "the program.\n",
    .options = options,
    .run = cmd_manual,
};

/* Characters that mean something to troff; a full stop or apostrophe only where a line begins. */
static void put(FILE *f, const char *text, size_t n, bool at_start)
{
	if (at_start && n && (*text == '.' || *text == '\''))
		fputs("\\&", f);
	for (size_t i = 0; i < n; i++) {
		switch (text[i]) {
		case '\\':
			fputs("\\e", f);
			break;
		case '-':
			fputs("\\-", f);
			break;
		case '\'':
			fputs("\\(aq", f);
			break;
		case '`':
			fputs("\\(ga", f);
			break;
		case '^':
			fputs("\\(ha", f);
			break;
		case '~':
			fputs("\\(ti", f);
			break;
		case '"':
			fputs("\\(dq", f);
			break;
		default:
			fputc(text[i], f);
		}
	}
}

/* Prose: a sentence begins a line, `x` is bold, a newline begins a paragraph (`paragraph` is its macro). */
static void prose(FILE *f, const char *text, const char *paragraph)
{
	bool bold = false, start = true;
	int at = 0;
	while (*text) {
		size_t n = strcspn(text, " \n");
		for (size_t i = 0; i < n;) {
			size_t part = strcspn(text + i, "`");
			part = part < n - i ? part : n - i;
			put(f, text + i, part, start && part);
			start = start && !part;
			i += part;
			if (i < n) {
				bold = !bold;
				fputs(bold ? "\\fB" : "\\fR", f);
				i++;
			}
		}
		bool ends = !bold && ((n && strchr(".?!", text[n - 1])) || at > 60);
		at += (int)n + 1;
		text += n;
		if (*text == '\n' && text[1])
			fprintf(f, "\n%s\n", paragraph);
		else if (*text == ' ')
			fputc(ends ? '\n' : ' ', f);
		start = *text == '\n' || (*text == ' ' && ends);
		at = start ? 0 : at;
		text += *text != 0;
	}
	fputc('\n', f);
}

/* Arguments: words in capitals are what the user puts there, in italics; the rest is as it is typed. */
static void arguments(FILE *f, const char *text)
{
	while (*text) {
		size_t n = 0;
		while (isupper((unsigned char)text[n]) || (n && (isdigit((unsigned char)text[n]) || text[n] == '_')))
			n++;
		fputs(n ? "\\fI" : "", f);
		put(f, text, n ? n : 1, false);
		fputs(n ? "\\fR" : "", f);
		text += n ? n : 1;
	}
}

static void synopsis(const struct command *c, FILE *f)
{
	fputs("\\fBintentkv ", f);
	put(f, c->name, strlen(c->name), false);
	fputs("\\fR", f);
	if (c->arguments) {
		fputc(' ', f);
		arguments(f, c->arguments);
	}
	fputs(c->options ? " [\\fIOPTION\\fR]...\n" : "\n", f);
}

static void option_entry(const struct command_option *o, FILE *f)
{
	char text[600];
	fputs(".TP\n", f);
	if (o->value < 256)
		fprintf(f, "\\fB\\-%c\\fR, ", o->value);
	fputs("\\fB\\-\\-", f);
	put(f, o->name, strlen(o->name), false);
	fputs("\\fR", f);
	if (o->argument) {
		fputc(' ', f);
		arguments(f, o->argument);
	}
	fputc('\n', f);
	command_option_text(o, text, sizeof text);
	prose(f, text, ".IP");
}

static void option_entries(const struct command_option *o, FILE *f)
{
	for (; o && o->name; o++)
		option_entry(o, f);
}

/* `paragraph`: the first one too begins a paragraph, which a section does by itself. */
static void examples(const char *text, bool paragraph, FILE *f)
{
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line != 0) {
		size_t end = strcspn(line, "\n"), tab = strcspn(line, "\t\n");
		fputs(tab < end ? ".TP\n" : paragraph || line != text ? ".PP\n" : "", f);
		fputs("\\fB", f);
		put(f, line, tab, false);
		fputs("\\fR\n", f);
		if (tab < end) {
			char comment[300];
			snprintf(comment, sizeof comment, "%.*s", (int)(end - tab - 1), line + tab + 1);
			prose(f, comment, ".IP");
		}
	}
}

static void title(const char *name, FILE *f)
{
	fputs(".\\\" Made by intentkv manual from the tables of commands and their options.\n.TH ", f);
	for (const char *p = name; *p; p++)
		fputc(toupper((unsigned char)*p), f);
	fprintf(f, " 1 \"\" \"%s\" \"User Commands\"\n", PACKAGE_STRING);
}

/* "play a scenario" as a sentence. */
static void summary(const struct command *c, FILE *f)
{
	char text[300];
	snprintf(text, sizeof text, "%c%s.", toupper((unsigned char)c->summary[0]), c->summary + 1);
	prose(f, text, ".PP");
}

static void about(const struct command *c, FILE *f)
{
	if (!c->about)
		return;
	fputs(".PP\n", f);
	prose(f, c->about, ".PP");
}

static void part_section(const struct command *c, FILE *f)
{
	fputs(".SS ", f);
	put(f, c->name, strlen(c->name), false);
	fputc('\n', f);
	synopsis(c, f);
	fputs(".PP\n", f);
	summary(c, f);
	about(c, f);
	option_entries(c->options, f);
	if (c->examples) {
		fputs(".PP\nFor example:\n", f);
		examples(c->examples, true, f);
	}
}

static void command_page(const struct command *c, FILE *f)
{
	char name[80];
	snprintf(name, sizeof name, "intentkv-%s", c->name);
	title(name, f);
	fputs(".SH NAME\n", f);
	put(f, name, strlen(name), true);
	fputs(" \\- ", f);
	put(f, c->summary, strlen(c->summary), false);
	fputs("\n.SH SYNOPSIS\n", f);
	if (c->run)
		synopsis(c, f);
	for (const struct command *const *p = c->parts; p && *p; p++) {
		fputs(c->run || p != c->parts ? ".br\n" : "", f);
		synopsis(*p, f);
	}
	fputs(".SH DESCRIPTION\n", f);
	summary(c, f);
	about(c, f);
	fputs(".SH OPTIONS\n", f);
	option_entries(c->options, f);
	option_entry(&command_help_option, f);
	if (c->parts)
		fputs(".SH SUBCOMMANDS\n", f);
	for (const struct command *const *p = c->parts; p && *p; p++)
		part_section(*p, f);
	fputs(".SH EXIT STATUS\n", f);
	if (c->exits) {
		fputs("Of its own: ", f);
		prose(f, c->exits, ".PP");
	}
	fprintf(f, "%s \\fBintentkv\\fR(1).\n", c->exits ? "The other codes are in" : "As in");
	if (c->examples) {
		fputs(".SH EXAMPLES\n", f);
		examples(c->examples, false, f);
	}
	fputs(".SH SEE ALSO\n\\fBintentkv\\fR(1)\n", f);
}

static void program_page(FILE *f)
{
	static const char *const environment[][2] = {
	    {"INTENTKV_ISA",
	     "instruction set of the CPU backend, such as `scalar` or `avx2`; one that this machine lacks "
	     "is an error"},
	    {"INTENTKV_DATADIR",
	     "folder that holds machines/, plots/ and scenarios/, looked at before the source folder of "
	     "the build and the installed data"},
	};
	title("intentkv", f);
	fputs(".SH NAME\nintentkv \\- ", f);
	put(f, command_program.summary, strlen(command_program.summary), false);
	fputs("\n.SH SYNOPSIS\n\\fBintentkv\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...\n.SH DESCRIPTION\n", f);
	prose(f, command_program.about, ".PP");
	fputs(".SH COMMANDS\nOptions and arguments of a command may come in any order.\n", f);
	for (const struct command *const *c = commands; *c; c++) {
		fputs(".TP\n\\fBintentkv\\-", f);
		put(f, (*c)->name, strlen((*c)->name), false);
		fputs("\\fR(1)\n", f);
		prose(f, (*c)->summary, ".IP");
	}
	fputs(".SH OPTIONS\n", f);
	option_entry(&command_help_option, f);
	option_entries(command_program.options, f);
	fputs(".SH EXIT STATUS\n", f);
	for (const struct command_exit *e = command_exits; e->meaning; e++) {
		fprintf(f, ".TP\n\\fB%d\\fR\n", e->code);
		prose(f, e->meaning, ".IP");
	}
	fputs(".SH ENVIRONMENT\n", f);
	for (size_t i = 0; i < sizeof environment / sizeof *environment; i++) {
		fprintf(f, ".TP\n\\fB%s\\fR\n", environment[i][0]);
		prose(f, environment[i][1], ".IP");
	}
	fputs(".SH EXAMPLES\n", f);
	examples(command_program.examples, false, f);
	fputs(".SH SEE ALSO\n\\fBgnuplot\\fR(1), \\fBsqlite3\\fR(1)\n", f);
}

static int write_page(const char *folder, const struct command *c)
{
	char path[4096];
	if (snprintf(path, sizeof path, "%s/intentkv%s%s.1", folder, c ? "-" : "", c ? c->name : "") >=
	    (int)sizeof path)
		return plot_fail(IKV_USAGE, folder, "the path is too long");
	FILE *f = fopen(path, "we");
	if (!f)
		return plot_fail(IKV_CANT_CREATE, path, strerror(errno));
	if (c)
		command_page(c, f);
	else
		program_page(f);
	return plot_finish(f, path);
}

int cmd_manual(int argc, char **argv)
{
	struct command_line line;
	const char *folder = NULL;
	int c, used, rc;
	command_begin(&line, &command_manual, argc, argv);
	while ((c = command_next(&line)) != -1) {
		if (c != 'o')
			return IKV_USAGE;
		folder = optarg;
	}
	if (argc - optind > (folder ? 0 : 1))
		return command_usage("manual", "expected %s",
				     folder ? "no command beside --output" : "one command at most");
	if (!folder) {
		const struct command *command = optind < argc ? command_find(1, argv + optind, &used) : NULL;
		if (optind < argc && !command)
			return command_unknown(argv[optind]);
		if (command)
			command_page(command, stdout);
		else
			program_page(stdout);
		return IKV_OK;
	}
	rc = write_page(folder, NULL);
	for (const struct command *const *p = commands; *p && !rc; p++)
		rc = write_page(folder, *p);
	return rc;
}
