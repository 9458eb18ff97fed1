// SPDX-License-Identifier: AGPL-3.0-or-later

// Command ostree-upload copies OSTree commits to a repository on another host
// and publishes them there. docs/design.md tells how.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/page"
	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/token"
)

// version is set by the linker.
var version = ""

// cli is the command line.
type cli struct {
	Verbose bool             `short:"v" help:"Log more."`
	Version kong.VersionFlag `help:"Print the version."`

	Gentoken GentokenCmd `cmd:"" help:"Make a token for pushing."`
	Tokens   TokensCmd   `cmd:"" help:"List and revoke the tokens of a server, on its host."`
	Push     PushCmd     `cmd:"" aliases:"upload" help:"Push commits to a server."`
	Refs     RefsCmd     `cmd:"" help:"List, set, delete and roll back the refs of a server."`
	Sessions SessionsCmd `cmd:"" help:"List, show and abort push sessions."`
	serverCommands
}

// App is what every command gets: Stdout is for results, the rest is for all else.
type App struct {
	Stdout, Stderr io.Writer
	Log            *slog.Logger
	Level          slog.Level // of Log
}

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // a million objects take much memory, and collecting takes under 1% of the time
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run runs one command and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	unsetEmpty()
	out := &counter{Writer: stdout}
	stdout = out
	parser := parserOf(&c, kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }))
	command, err := parser.Parse(helped(joined(args)))
	if exited >= 0 {
		return exited // --help or --version
	}
	if err != nil {
		err = badUsage{hint.Add(err, "ostree-upload --help")}
		out.failed(args, err)
		return report(stderr, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills
	app := newApp(stdout, stderr, levelOf(command.Command(), c.Verbose))
	command.BindTo(ctx, (*context.Context)(nil))
	err = command.Run(app)
	out.failed(args, err)
	return report(stderr, err)
}

// parserOf is the parser of the command line, which fills c.
func parserOf(c *cli, options ...kong.Option) *kong.Kong {
	return kong.Must(c, append(options,
		kong.Name("ostree-upload"),
		kong.Description("Push OSTree commits to a repository on another host, over links that break."),
		kong.Vars{"version": versionOf(), "scopes": strings.Join(token.Scopes, ", ")},
	)...)
}

// levelOf is from where on a command logs: the server from info, others from warn.
func levelOf(command string, verbose bool) slog.Level {
	switch {
	case verbose:
		return slog.LevelDebug
	case command == "receive":
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// newApp logs to stderr.
func newApp(stdout, stderr io.Writer, level slog.Level) *App {
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	return &App{Stdout: stdout, Stderr: stderr, Log: log, Level: level}
}

// report prints an error and its hint, and returns the exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(stderr, "ostree-upload: %s\n", page.Text(text))
	}
	if next := hint.Of(err); next != "" {
		fmt.Fprintf(stderr, "hint: %s\n", page.Text(next))
	}
	if id := requestOf(err); id != "" {
		fmt.Fprintf(stderr, "request: %s\n", id)
	}
	return exitCode(err)
}

// requestOf is the ID under which the log of the server has what failed, or "".
func requestOf(err error) string {
	var known interface{ RequestID() string }
	if errors.As(err, &known) {
		return known.RequestID()
	}
	return client.RequestOf(err)
}

// errInterrupted is the error of a command that a signal ended.
var errInterrupted error = &push.Error{Exit: push.ExitInterrupted, Code: "interrupted", Err: errors.New("interrupted")}

// exitCode is the one that err gives itself, or what an answer of a server means.
func exitCode(err error) int {
	var own interface{ ExitCode() int }
	if errors.As(err, &own) {
		return own.ExitCode()
	}
	return push.ExitCode(err)
}

// joined writes --depth -1 as --depth=-1: kong takes the value for a flag.
func joined(args []string) []string {
	i := slices.Index(args, "--depth")
	if i < 0 || i+1 == len(args) || !strings.HasPrefix(args[i+1], "-") {
		return args
	}
	return slices.Concat(args[:i], []string{"--depth=" + args[i+1]}, args[i+2:])
}

// helped writes help COMMAND as COMMAND --help.
func helped(args []string) []string {
	if len(args) == 0 || args[0] != "help" {
		return args
	}
	return append(slices.Clone(args[1:]), "--help")
}

// unsetEmpty takes away variables that are empty, and so say nothing.
func unsetEmpty() {
	for _, name := range []string{"CONFIG", "REPO", "TOKEN", "TOKEN_FILE", "TOKEN_COMMAND", "CA_FILE", "CLIENT_CERT", "CLIENT_KEY", "INSECURE_HTTP"} {
		if name = "OSTREE_UPLOAD_" + name; os.Getenv(name) == "" {
			os.Unsetenv(name)
		}
	}
}

func versionOf() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
