// Package daemon is what every Damask daemon's main does: flags, the
// configuration file, the logger, signals and the exit code. It also serves
// the daemon's metrics and liveness over HTTP.
//
// It promises the same command line everywhere:
//
//	NAME -config FILE     run until SIGTERM or SIGINT, then stop gracefully
//	NAME -check           say "FILE: ok" or every problem of the file, and exit
//	NAME -version         say the version, and exit
//
// A program whose configuration is its environment has the same but for -config.
//
// And that a configuration file is followed: what is marked as live in the configuration's
// type, as the log level is, counts at once, of other fields the log says that they wait for
// the next start, and what is wrong is refused as a whole.
//
// It must not know any service.
//
// Used by all daemons in the services' cmd directories.
package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/configfile"
)

// Exit codes of a daemon.
const (
	ExitOK    = 0 // stopped by a signal, or -check found nothing
	ExitError = 1 // could not run, or -check found problems
	ExitUsage = 2 // wrong command line
)

// Log is the "log" block of every daemon's configuration.
type Log struct {
	// Level is the least that is logged: "trace", "debug", "info", "warn" or
	// "error". Default "info".
	Level string `yaml:"level" live:"true"`
	// JSON writes one JSON object a line instead of text. Default false.
	JSON bool `yaml:"json"`
}

// Check adds to a configuration's report.
func (l Log) Check(r *configfile.Report) {
	if l.Level != "" && hclog.LevelFromString(l.Level) == hclog.NoLevel {
		r.Addf("level", "%q is not trace, debug, info, warn or error", l.Level)
	}
}

// New makes the logger of a process, which writes to out.
func (l Log) New(name string, out io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: l.level(), JSONFormat: l.JSON, Output: out})
}

func (l Log) level() hclog.Level {
	if level := hclog.LevelFromString(l.Level); level != hclog.NoLevel {
		return level
	}
	return hclog.Info
}

// Program is a daemon with a configuration of type C.
type Program[C any] struct {
	// Name is the binary's name, "damask-ipam".
	Name string
	// ConfigFile is the default of -config.
	ConfigFile string
	// FromEnvironment says that the configuration is the environment: there is no
	// -config.
	FromEnvironment bool
	// Load reads and checks a configuration file, or the environment, whatever the
	// path; its error is shown as it is.
	Load func(path string) (C, error)
	// Log answers the log block of a configuration.
	Log func(C) Log
	// Run is the daemon. It returns nil when ctx ends.
	Run func(ctx context.Context, cfg C, log hclog.Logger) error
	// RunLive is Run for a daemon with fields that are live beside the log level, or that
	// tells of its file elsewhere too.
	RunLive func(ctx context.Context, cfg C, live *Live[C], log hclog.Logger) error
}

// Main runs the program with the process's own arguments, and answers the
// exit code. The first SIGTERM or SIGINT stops it gracefully, the second one
// at once.
func (p Program[C]) Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // the next signal kills
	return p.Execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// Execute is Main with everything that it takes from the process as
// arguments.
func (p Program[C]) Execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	from := "environment"
	if !p.FromEnvironment {
		flags.StringVar(&from, "config", p.ConfigFile, "configuration `file`")
	}
	check := flags.Bool("check", false, "check the configuration and exit")
	version := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return ExitOK
	case err != nil:
		return ExitUsage
	case flags.NArg() > 0:
		_, _ = fmt.Fprintf(stderr, "%s: unexpected argument %q\n", p.Name, flags.Arg(0))
		return ExitUsage
	}
	if *version {
		_, _ = fmt.Fprintf(stdout, "%s %s\n", p.Name, Version())
		return ExitOK
	}
	cfg, err := p.Load(from)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return ExitError
	}
	if *check {
		_, _ = fmt.Fprintf(stdout, "%s: ok\n", from)
		return ExitOK
	}
	log := p.Log(cfg).New(p.Name, stderr)
	log.Info("starting", "version", Version(), "config", from)
	if err := p.run(ctx, from, cfg, log); err != nil {
		log.Error("cannot go on", "error", err)
		return ExitError
	}
	log.Info("stopped")
	return ExitOK
}

// run runs the daemon, and follows its configuration file meanwhile. That it cannot is no
// reason to end: what was read is in force.
func (p Program[C]) run(ctx context.Context, path string, cfg C, log hclog.Logger) error {
	if p.FromEnvironment {
		return p.Run(ctx, cfg, log)
	}
	live := &Live[C]{}
	start := func() error { return p.Run(ctx, cfg, log) }
	if p.RunLive != nil {
		start = func() error { return p.RunLive(ctx, cfg, live, log) }
	}
	following, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	defer done.Wait()
	defer stop()
	done.Go(func() {
		if err := (&follower[C]{program: p, path: path, running: cfg, last: cfg, live: live, log: log}).run(following); err != nil {
			log.Warn("changes of the configuration file count from the next start on", "error", err)
		}
	})
	return start()
}
