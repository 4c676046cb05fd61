package relay

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/daemon"
)

const programName = "damask-egress-router"

// Main runs the program with the process's own arguments and environment, and answers the
// exit code; device leads outward. The first SIGTERM or SIGINT stops it gracefully, the
// second one at once.
func Main(device string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	return execute(ctx, device, os.Args[1:], os.Stdout, os.Stderr)
}

// execute has the command line of all daemons, but for the file: a container's environment
// is its configuration.
func execute(ctx context.Context, device string, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet(programName, flag.ContinueOnError)
	flags.SetOutput(stderr)
	check := flags.Bool("check", false, "check the environment and exit")
	version := flags.Bool("version", false, "print the version and exit")
	level := flags.String("log", "info", "the least that is logged: trace, debug, info, warn or error")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return daemon.ExitOK
	case err != nil:
		return daemon.ExitUsage
	case flags.NArg() > 0:
		_, _ = fmt.Fprintf(stderr, "%s: unexpected argument %q\n", programName, flags.Arg(0))
		return daemon.ExitUsage
	case hclog.LevelFromString(*level) == hclog.NoLevel:
		_, _ = fmt.Fprintf(stderr, "%s: -log: %q is not trace, debug, info, warn or error\n", programName, *level)
		return daemon.ExitUsage
	}
	if *version {
		_, _ = fmt.Fprintf(stdout, "%s %s\n", programName, daemon.Version())
		return daemon.ExitOK
	}
	config, err := FromEnvironment(device, os.LookupEnv)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return daemon.ExitError
	}
	if *check {
		_, _ = fmt.Fprintln(stdout, "environment: ok")
		return daemon.ExitOK
	}
	log := daemon.Log{Level: *level}.New(programName, stderr)
	log.Info("starting", "version", daemon.Version())
	if err := Run(ctx, config, log); err != nil {
		log.Error("cannot go on", "error", err)
		return daemon.ExitError
	}
	log.Info("stopped")
	return daemon.ExitOK
}
