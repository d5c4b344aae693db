/* intentkv completion: scripts for bash and zsh, from the table of commands, the options in their help, and the
 * tables of queries, figures and terminals. `make` writes and installs them. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "sim/command.h"
#include "sim/figure.h"

const char cmd_completion_help[] =
    "intentkv completion SHELL: print a script that completes commands, options and their values\n\n"
    "  . <(intentkv completion bash)                                         now, in this shell\n"
    "  intentkv completion zsh >~/.zfunc/_intentkv                           a folder of $fpath\n\n"
    "SHELL is bash or zsh. `make install` puts both where the shells look for them.\n";

struct word {
	const char *text;
	int length;
};
struct choice {     /* one option of a command's help */
	char small; /* short form, 0: none */
	struct word name, argument, what;
};

static bool is_argument(const char *p, const char **end)
{
	*end = p;
	while (isupper((unsigned char)**end) || **end == '=' || **end == '_')
		++*end;
	return *end > p && (**end == ' ' || **end == '\n' || **end == ',');
}

/* The next option at *p within one line of help; a line may have several, parted by commas. */
static bool next_choice(const char **p, struct choice *c)
{
	const char *s = *p, *end;
	memset(c, 0, sizeof *c);
	while (*s == ' ' || *s == ',')
		s++;
	if (s[0] == '-' && isalpha((unsigned char)s[1]) && s[2] == ',') {
		c->small = s[1];
		s += 3 + (s[3] == ' ');
	}
	if (strncmp(s, "--", 2) != 0)
		return false;
	c->name.text = s;
	for (s += 2; isalnum((unsigned char)*s) || *s == '-'; s++)
		;
	c->name.length = (int)(s - c->name.text);
	while (*s == ' ')
		s++;
	if (is_argument(s, &end)) {
		c->argument = (struct word){s, (int)(end - s)};
		s = end;
	}
	*p = s;
	while (*s == ' ')
		s++;
	c->what.text = s;
	c->what.length = *s == ',' ? 0 : (int)strcspn(s, "\n");
	return true;
}

/* Call fn for each option of a command. */
static void each_choice(const struct command *command,
			void (*fn)(const struct command *command, const struct choice *c))
{
	for (const char *line = command->help; line; line = strchr(line, '\n')) {
		struct choice c;
		line += *line == '\n';
		const char *p = line + strspn(line, " ");
		if (p == line || *p != '-')
			continue;
		while (next_choice(&p, &c))
			fn(command, &c);
	}
}

/* Values that an option's text names, of those that options have. */
static void print_values(const struct choice *c, const char *between)
{
	static const char *const known[] = {"table", "csv", "json", "jsonl", "markdown", "svg",
					    "png",   "pdf", "dumb", "auto",  "trace",    "time"};
	bool any = false;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		size_t n = strlen(known[i]);
		for (const char *p = c->what.text; p + n <= c->what.text + c->what.length; p++) {
			bool begins = p == c->what.text || !isalnum((unsigned char)p[-1]);
			if (!begins || strncmp(p, known[i], n) != 0 || isalnum((unsigned char)p[n]) || p[n] == '-')
				continue;
			printf("%s%s", any ? between : "", known[i]);
			any = true;
			break;
		}
	}
}

static bool argument_is(const struct choice *c, const char *name)
{
	return (size_t)c->argument.length == strlen(name) && strncmp(c->argument.text, name, strlen(name)) == 0;
}

/* What stands first after a command: words of its own, or files of an ending. */
static const char *ending_of(const char *command)
{
	static const char *const endings[][2] = {
	    {"run", "yaml"}, {"check", "yaml"}, {"route", "yaml"}, {"generate", "yaml"}, {"runs", "db"},
	    {"query", "db"}, {"plot", "db"},    {"report", "db"},  {"compare", "db"},    {"explain", "db"}};
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
		if (strcmp(command, endings[i][0]) == 0)
			return endings[i][1];
	return "";
}

static void print_words(const char *command)
{
	if (strcmp(command, "db") == 0)
		fputs("schema export backup check rollup upgrade", stdout);
	else if (strcmp(command, "completion") == 0)
		fputs("bash zsh", stdout);
	else if (strcmp(command, "bench") == 0)
		fputs("policies attention formats mrc", stdout);
	for (const struct store_named *q = store_queries; q->name && strcmp(command, "query") == 0; q++)
		if (strncmp(q->name, "plot-", 5) != 0)
			printf("%s ", q->name);
	for (const struct figure *f = figures; f->query && strcmp(command, "plot") == 0; f++)
		printf("%s ", f->plot.name);
}

static void bash_option(const struct command *command, const struct choice *c)
{
	(void)command;
	if (c->small)
		printf("-%c ", c->small);
	printf("%.*s ", c->name.length, c->name.text);
}

static void bash_value(const struct command *command, const struct choice *c)
{
	if (!c->argument.length)
		return;
	printf("\t%s:%.*s", command->name, c->name.length, c->name.text);
	if (c->small)
		printf("|%s:-%c", command->name, c->small);
	fputs(") ", stdout);
	if (argument_is(c, "FILE") || argument_is(c, "DIR") || argument_is(c, "FOLDER")) {
		printf("COMPREPLY=($(compgen -%c -- \"$cur\")) ;;\n", argument_is(c, "FILE") ? 'f' : 'd');
		return;
	}
	fputs("COMPREPLY=($(compgen -W '", stdout);
	print_values(c, " ");
	fputs("' -- \"$cur\")) ;;\n", stdout);
}

static void bash(void)
{
	fputs("# bash completion of intentkv, printed by `intentkv completion bash`.\n"
	      "_intentkv() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} "
	      "options='' words='' ending=''\n"
	      "\tCOMPREPLY=()\n"
	      "\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n\t\tCOMPREPLY=($(compgen -W '",
	      stdout);
	for (const struct command *c = commands; c->name; c++)
		printf("%s ", c->name);
	fputs("help --help --version' -- \"$cur\"))\n\t\treturn\n\tfi\n\tcase $command:$prev in\n", stdout);
	for (const struct command *c = commands; c->name; c++)
		each_choice(c, bash_value);
	fputs("\tesac\n", stdout);
	fputs("\t[ \"${#COMPREPLY[@]}\" -eq 0 ] || return\n\tcase $command in\n", stdout);
	for (const struct command *c = commands; c->name; c++) {
		printf("\t%s) options='", c->name);
		each_choice(c, bash_option);
		fputs("-h --help' words='", stdout);
		print_words(c->name);
		printf("' ending='%s' ;;\n", ending_of(c->name));
	}
	fputs("\tesac\n"
	      "\tcase $cur in\n"
	      "\t-*) COMPREPLY=($(compgen -W \"$options\" -- \"$cur\")) ;;\n"
	      "\t*)\n"
	      "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	      "\t\tlocal file\n"
	      "\t\twhile IFS= read -r file; do\n"
	      "\t\t\t[ -d \"$file\" ] || [ -z \"$ending\" ] || [ \"${file%.$ending}\" != \"$file\" ] && "
	      "COMPREPLY+=(\"$file\")\n"
	      "\t\tdone < <(compgen -f -- \"$cur\") ;;\n"
	      "\tesac\n"
	      "}\n"
	      "complete -o filenames -F _intentkv intentkv\n",
	      stdout);
}

/* Text within '[...]' of an _arguments specification that stands in single quotes. */
static void zsh_text(const char *text, int length)
{
	for (int i = 0; i < length; i++) {
		if (text[i] == '\'')
			fputs("'\\''", stdout);
		else if (strchr("[]:\\", text[i]))
			printf("\\%c", text[i]);
		else
			putchar(text[i]);
	}
}

static void zsh_option(const struct command *command, const struct choice *c)
{
	const char *equals = c->argument.length ? "=" : "";
	(void)command;
	if (c->small)
		printf("\t\t\t'*'{-%c,%.*s%s}'[", c->small, c->name.length, c->name.text, equals);
	else
		printf("\t\t\t'*%.*s%s[", c->name.length, c->name.text, equals);
	zsh_text(c->what.text, c->what.length);
	putchar(']');
	if (c->argument.length) {
		putchar(':');
		zsh_text(c->argument.text, c->argument.length);
		putchar(':');
		if (argument_is(c, "FILE"))
			fputs("_files", stdout);
		else if (argument_is(c, "DIR") || argument_is(c, "FOLDER"))
			fputs("_files -/", stdout);
		else {
			putchar('(');
			print_values(c, " ");
			putchar(')');
		}
	}
	fputs("' \\\n", stdout);
}

static void zsh(void)
{
	fputs(
	    "#compdef intentkv\n# zsh completion of intentkv, printed by `intentkv completion zsh`.\n_intentkv() {\n"
	    "\tlocal -a commands=(\n",
	    stdout);
	for (const struct command *c = commands; c->name; c++) {
		printf("\t\t'%s:", c->name);
		zsh_text(c->summary, (int)strlen(c->summary));
		fputs("'\n", stdout);
	}
	fputs("\t)\n\tif (( CURRENT == 2 )); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n"
	      "\tlocal command=$words[2]\n\tshift words\n\t(( CURRENT-- ))\n\tcase $command in\n",
	      stdout);
	for (const struct command *c = commands; c->name; c++) {
		const char *ending = ending_of(c->name);
		printf("\t%s)\n\t\t_arguments \\\n", c->name);
		each_choice(c, zsh_option);
		fputs(
		    "\t\t\t'(-h --help)'{-h,--help}'[say more]' \\\n\t\t\t'*:argument:{ _alternative \"words:word:(",
		    stdout);
		print_words(c->name);
		if (*ending)
			printf(")\" \"files:file:_files -g \\\"*.%s\\\"\" }' ;;\n", ending);
		else
			fputs(")\" \"files:file:_files\" }' ;;\n", stdout);
	}
	fputs("\tesac\n}\n_intentkv \"$@\"\n", stdout);
}

int cmd_completion(int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
	int c;
	optind = opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (c != 'h')
			return command_option("completion", argv, options, c);
		fputs(cmd_completion_help, stdout);
		return 0;
	}
	if (optind + 1 != argc)
		return command_usage("completion", "expected a shell: bash or zsh");
	if (strcmp(argv[optind], "bash") == 0)
		bash();
	else if (strcmp(argv[optind], "zsh") == 0)
		zsh();
	else
		return command_usage("completion", "got \"%.40s\", expected bash or zsh", argv[optind]);
	return fflush(stdout) == 0 ? 0 : IKV_IO;
}
