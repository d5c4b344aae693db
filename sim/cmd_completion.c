/* intentkv completion: scripts for bash and zsh. They ask the program, as `intentkv completion words`, what may stand
 * at the cursor, so that they know what this very program knows. */
#include <stdio.h>
#include <string.h>
#include "sim/command.h"
#include "sim/command_text.h"

static const struct command bash_part = {
    .name = "completion bash",
    .summary = "print the script for bash",
    .examples = ". <(intentkv completion bash)\tnow, in this shell\n",
    .run = cmd_completion,
};
static const struct command zsh_part = {
    .name = "completion zsh",
    .summary = "print the script for zsh",
    .examples = "intentkv completion zsh >~/.zfunc/_intentkv\ta folder of $fpath\n",
    .run = cmd_completion,
};
static const struct command words_part = {
    .name = "completion words",
    .summary = "print what may stand in place of the last WORD after \"intentkv\"; the scripts ask so",
    .arguments = "-- WORD...",
    .examples = "intentkv completion words -- plot r.db --term ''\n",
    .about =
	"A line for each: the word and, after a tab, what it means. A line `*.db` stands for files with that ending, "
	"`*` for any, `/` for folders.\n",
    .run = cmd_completion,
};
static const struct command *const parts[] = {&bash_part, &zsh_part, &words_part, NULL};

const struct command command_completion = {
    .name = "completion",
    .summary = "print a script that completes commands, options and their values in bash or zsh",
    .arguments = "SHELL",
    .examples = ". <(intentkv completion bash)\tnow, in this shell\n"
		"intentkv completion zsh >~/.zfunc/_intentkv\ta folder of $fpath\n",
    .about = "`make install` puts both where the shells look for them.\n",
    .parts = parts,
};

/* Words are taken from the line, since bash breaks them at = and :, and what is before the last of these in the
 * current word is not part of what it replaces. */
static const char bash[] =
    "# bash completion of intentkv, printed by `intentkv completion bash`.\n"
    "_intentkv() {\n"
    "\tlocal line=${COMP_LINE:0:COMP_POINT} words cur keep word file\n"
    "\tread -ra words <<<\"$line\"\n"
    "\t[ \"${line: -1}\" = ' ' ] && words+=('')\n"
    "\tcur=${words[${#words[@]}-1]}\n"
    "\tkeep=${cur%\"${cur##*[=:]}\"}\n"
    "\tCOMPREPLY=()\n"
    "\twhile IFS=$'\\t' read -r word _; do\n"
    "\t\tcase $word in\n"
    "\t\t/) while IFS= read -r file; do COMPREPLY+=(\"$file\"); done < <(compgen -d -- \"${cur#\"$keep\"}\") ;;\n"
    "\t\t'*'*) while IFS= read -r file; do\n"
    "\t\t\t\tif [ -d \"$file\" ] || [[ $file == $word ]]; then COMPREPLY+=(\"$file\"); fi\n"
    "\t\t\tdone < <(compgen -f -- \"${cur#\"$keep\"}\") ;;\n"
    "\t\t*) COMPREPLY+=(\"${word#\"$keep\"}\")\n"
    "\t\t\tcase $word in *[=.]) compopt -o nospace 2>/dev/null ;; esac ;;\n"
    "\t\tesac\n"
    "\tdone < <(\"${words[0]}\" completion words -- \"${words[@]:1}\" 2>/dev/null)\n"
    "}\n"
    "complete -o filenames -F _intentkv intentkv\n";

static const char zsh[] =
    "#compdef intentkv\n"
    "# zsh completion of intentkv, printed by `intentkv completion zsh`.\n"
    "_intentkv() {\n"
    "\tlocal line word\n"
    "\tlocal -a whole open shown opened\n"
    "\tfor line in ${(f)\"$($words[1] completion words -- \"${(@Q)words[2,CURRENT]}\" 2>/dev/null)\"}; do\n"
    "\t\tword=${line%%$'\\t'*}\n"
    "\t\tcase $word in\n"
    "\t\t/) compset -P '*='; _files -/ ;;\n"
    "\t\t'*'*) compset -P '*='; _files -g $word ;;\n"
    "\t\t*[=.]) open+=($word) opened+=(\"$word  ${line#$word}\") ;;\n"
    "\t\t*) whole+=($word) shown+=(\"$word  ${line#$word}\") ;;\n"
    "\t\tesac\n"
    "\tdone\n"
    "\t(( $#whole )) && compadd -l -d shown -a whole\n"
    "\t(( $#open )) && compadd -S '' -l -d opened -a open\n"
    "}\n"
    "_intentkv \"$@\"\n";

/* argv[0] is the last word of one of the parts. */
int cmd_completion(int argc, char **argv)
{
	const struct command *part = strcmp(argv[0], "words") == 0 ? &words_part
				     : strcmp(argv[0], "zsh") == 0 ? &zsh_part
								   : &bash_part;
	struct command_line line;
	command_begin(&line, part, argc, argv);
	if (command_next(&line) != -1)
		return IKV_USAGE;
	if (part == &words_part)
		return command_words(argc - optind, argv + optind, stdout) ? IKV_OK : IKV_FAILED;
	if (optind < argc)
		return command_usage(part->name, "unexpected argument \"%.40s\"", argv[optind]);
	fputs(part == &zsh_part ? zsh : bash, stdout);
	return IKV_OK;
}
