package daemon_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/logtest"
)

// running is a daemon that runs, and its configuration file.
type running struct {
	*testing.T
	path string
	log  hclog.Logger
	said logtest.Lines
	reg  *prometheus.Registry
}

// run runs a daemon until the test ends.
func run(t *testing.T, path string) *running {
	t.Helper()
	r := &running{T: t, path: path, reg: daemon.NewRegistry()}
	started := make(chan hclog.Logger, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() {
		done <- program(func(ctx context.Context, _ config, log hclog.Logger) error {
			started <- log.Named("part")
			<-ctx.Done()
			return nil
		}).Execute(ctx, []string{"-config", path}, &r.said, &r.said)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != daemon.ExitOK {
			t.Errorf("it ended with %d: %s", code, &r.said)
		}
	})
	r.log = <-started
	return r
}

// until waits for a condition.
func (r *running) until(what string, holds func() bool) {
	r.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("%s: level %s, it said:\n%s", what, r.log.GetLevel(), &r.said)
		}
	}
}

func (r *running) says(text string) {
	r.Helper()
	r.until(text, func() bool { return strings.Contains(r.said.String(), text) })
}

func (r *running) level(want hclog.Level) {
	r.Helper()
	r.until("level "+want.String(), func() bool { return r.log.GetLevel() == want })
}

// metrics answers what is known of the file.
func (r *running) metrics() string {
	families, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	var text []string
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "damask_config_") {
			text = append(text, fmt.Sprintf("%s %v", strings.TrimPrefix(family.GetName(), "damask_config_"), family.GetMetric()[0].GetGauge().GetValue()))
		}
	}
	return strings.Join(text, ", ")
}

func (r *running) shows(want string) {
	r.Helper()
	r.until(want, func() bool { return r.metrics() == want })
}

// replace writes a file and gives it the name of another.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.Rename(write(t, content), path); err != nil {
		t.Fatal(err)
	}
}

func TestAConfigurationFileIsFollowed(t *testing.T) {
	r := run(t, write(t, "store: /x\n"))
	r.level(hclog.Info)
	r.shows("pending_fields 0, wrong 0")
	replace(t, r.path, "store: /x\nlog: {level: debug}\n")
	r.level(hclog.Debug)

	if err := os.WriteFile(r.path, []byte("store: /y\nlog: {level: trace, json: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.level(hclog.Trace)
	r.says("count from the next start on: fields=\"log.json, store\"")
	r.shows("pending_fields 2, wrong 0")

	replace(t, r.path, "log: {level: loud}\n")
	r.says(":1: log.level: \"loud\" is not")
	r.says(":1: store: required")
	r.shows("pending_fields 2, wrong 1")
	if r.log.GetLevel() != hclog.Trace {
		t.Errorf("a wrong file made the level %s", r.log.GetLevel())
	}
	replace(t, r.path, "store: /x\n")
	r.level(hclog.Info)
	r.shows("pending_fields 0, wrong 0")
}

// TestAConfigMapIsFollowed changes the file as a kubelet does: it is a link by way of another
// one, which is replaced.
func TestAConfigMapIsFollowed(t *testing.T) {
	dir := t.TempDir()
	put := func(version, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "c.yaml"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	put("..1", "store: /x\n")
	path := filepath.Join(dir, "c.yaml")
	if err := os.Symlink(filepath.Join("..data", "c.yaml"), path); err != nil {
		t.Fatal(err)
	}
	r := run(t, path)
	r.level(hclog.Info)
	put("..2", "store: /x\nlog: {level: error}\n")
	r.level(hclog.Error)
}
