package ovshost

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
)

const (
	// answerTimeout is how long ovsdb-server may take to answer, in seconds. A big
	// database is read in less than one.
	answerTimeout = "30"
	// dialPause is between two looks whether ovsdb-server listens. ovs-vsctl can wait
	// itself, but looks once a second, and less often later.
	dialPause = 20 * time.Millisecond
)

// Run runs Open vSwitch until ctx ends. It waits first until no other runs.
func Run(ctx context.Context, cfg Config, log hclog.Logger) error {
	if err := os.MkdirAll(cfg.RunDir, 0o755); err != nil {
		return err
	}
	place, err := own(ctx, cfg.RunDir, log)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	defer place.Close()
	for _, name := range []string{"ovs-vswitchd", "ovsdb-server"} {
		if err := awaitFree(ctx, cfg.pidfile(name), log); err != nil {
			return unlessStopped(ctx, err)
		}
	}
	if err := cfg.prepare(ctx, log); err != nil {
		return unlessStopped(ctx, fmt.Errorf("prepare the database: %w", err))
	}
	return unlessStopped(ctx, cfg.run(ctx, log))
}

// run runs both daemons. ovsdb-server ends last, as it starts first: ovs-vswitchd says
// there what it did until its end.
func (c *Config) run(ctx context.Context, log hclog.Logger) error {
	databaseCtx, stopDatabase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDatabase()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return c.keep(databaseCtx, log, "ovsdb-server", c.Database, "--remote=punix:"+c.socket(),
			"--private-key=db:Open_vSwitch,SSL,private_key", "--certificate=db:Open_vSwitch,SSL,certificate",
			"--bootstrap-ca-cert=db:Open_vSwitch,SSL,ca_cert")
	})
	group.Go(func() error {
		defer stopDatabase()
		if err := c.settings(ctx, log); err != nil {
			return fmt.Errorf("write the host's settings: %w", err)
		}
		return c.keep(ctx, log, "ovs-vswitchd", append([]string{"unix:" + c.socket()}, c.Arguments...)...)
	})
	return group.Wait()
}

// unlessStopped is an error that is not the consequence of being stopped.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *Config) socket() string { return filepath.Join(c.RunDir, "db.sock") }

func (c *Config) pidfile(name string) string { return filepath.Join(c.RunDir, name+".pid") }

// environment says to the daemons, and to their tools, where everything is.
func (c *Config) environment() []string {
	return append(os.Environ(), "OVS_RUNDIR="+c.RunDir, "OVS_LOGDIR="+c.RunDir, "OVS_DBDIR="+filepath.Dir(c.Database))
}

// vsctl runs ovs-vsctl, once ovsdb-server listens.
func (c *Config) vsctl(ctx context.Context, args ...string) (string, error) {
	for {
		conn, err := net.Dial("unix", c.socket())
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case <-time.After(dialPause):
		case <-ctx.Done():
			return "", fmt.Errorf("ovsdb-server does not answer: %w", err)
		}
	}
	return c.tool(ctx, "ovs-vsctl", append([]string{"--db=unix:" + c.socket(), "--retry", "--timeout=" + answerTimeout}, args...)...)
}

// tool runs a command to its end, and answers its output without the last newline.
func (c *Config) tool(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.WaitDelay = c.environment(), time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", cmd, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
