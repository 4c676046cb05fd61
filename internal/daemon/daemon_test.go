package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/daemon"
)

type config struct {
	Log   daemon.Log `yaml:"log"`
	Store string     `yaml:"store"`
}

func program(run func(context.Context, config, hclog.Logger) error) daemon.Program[config] {
	return daemon.Program[config]{
		Name: "damask-test", ConfigFile: "/none.yaml",
		Load: func(path string) (cfg config, err error) {
			err = configfile.Load(path, &cfg, func(r *configfile.Report) {
				cfg.Log.Check(r.In("log"))
				r.Required("store", cfg.Store)
			})
			return cfg, err
		},
		Log: func(c config) daemon.Log { return c.Log },
		Run: run,
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheCommandLineOfADaemon(t *testing.T) {
	good := write(t, "store: /x\n")
	bad := write(t, "stor: /x\nlog: {level: loud}\n")
	failing := errors.New("open store: no space")
	for _, tc := range []struct {
		name           string
		args           []string
		run            error
		code           int
		stdout, stderr string // a part of it
	}{
		{"check of a good file", []string{"-check", "-config", good}, nil, daemon.ExitOK, good + ": ok\n", ""},
		{"check of a bad file", []string{"-check", "-config", bad}, nil, daemon.ExitError, "",
			bad + ":1: stor: unknown field; known here: log, store\n" + bad + ":1: store: required\n" + bad + ":2: log.level: \"loud\" is not trace, debug, info, warn or error\n"},
		{"no file", nil, nil, daemon.ExitError, "", "open /none.yaml: no such file or directory\n"},
		{"version", []string{"-version"}, nil, daemon.ExitOK, "damask-test ", ""},
		{"unknown flag", []string{"-colour"}, nil, daemon.ExitUsage, "", "flag provided but not defined: -colour"},
		{"an argument", []string{"start"}, nil, daemon.ExitUsage, "", `unexpected argument "start"`},
		{"check of no file", []string{"-check"}, nil, daemon.ExitError, "", "open /none.yaml"},
		{"help", []string{"-h"}, nil, daemon.ExitOK, "", "-check"},
		{"runs and stops", []string{"-config", good}, nil, daemon.ExitOK, "", "damask-test: stopped"},
		{"cannot run", []string{"-config", good}, failing, daemon.ExitError, "", `damask-test: cannot go on: error="open store: no space"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			p := program(func(_ context.Context, c config, _ hclog.Logger) error {
				if c.Store != "/x" {
					t.Errorf("configuration %+v", c)
				}
				return tc.run
			})
			code := p.Execute(t.Context(), tc.args, &stdout, &stderr)
			if code != tc.code || !strings.Contains(stdout.String(), tc.stdout) || !strings.Contains(stderr.String(), tc.stderr) {
				t.Errorf("code %d, want %d\nstdout: %s\nstderr: %s", code, tc.code, &stdout, &stderr)
			}
			if tc.stdout == "" && stdout.Len() > 0 {
				t.Errorf("unexpected output: %s", &stdout)
			}
		})
	}
}

func TestWhoseConfigurationIsTheEnvironmentHasNoFile(t *testing.T) {
	for _, tc := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"-check"}, daemon.ExitOK, "environment: ok\n", ""},
		{[]string{"-config", "x"}, daemon.ExitUsage, "", "flag provided but not defined: -config"},
		{nil, daemon.ExitOK, "", "damask-test: stopped"},
	} {
		p := program(func(context.Context, config, hclog.Logger) error { return nil })
		p.FromEnvironment = true
		p.Load = func(string) (config, error) { return config{}, nil }
		var stdout, stderr bytes.Buffer
		if code := p.Execute(t.Context(), tc.args, &stdout, &stderr); code != tc.code || stdout.String() != tc.stdout || !strings.Contains(stderr.String(), tc.stderr) {
			t.Errorf("%q: code %d, want %d\nstdout: %s\nstderr: %s", tc.args, code, tc.code, &stdout, &stderr)
		}
	}
}

func TestTheLogHasTheFormatThatIsAskedFor(t *testing.T) {
	var out bytes.Buffer
	log := daemon.Log{Level: "warn", JSON: true}.New("damask-test", &out)
	log.Info("not shown")
	log.Warn("shown", "node", "n1")
	if got := out.String(); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"node":"n1"`) || strings.Contains(got, "not shown") {
		t.Errorf("got %s", got)
	}
}

func TestMetricsAndHealthAreServed(t *testing.T) {
	sick := make(chan error, 1)
	m, err := daemon.NewMonitor("127.0.0.1:0", daemon.NewRegistry(), func() error { return <-sick })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	for _, tc := range []struct {
		path   string
		health error
		code   int
		body   string
	}{
		{"/healthz", nil, http.StatusOK, "ok\n"},
		{"/healthz", errors.New("the store is away"), http.StatusServiceUnavailable, "the store is away\n"},
		{"/metrics", nil, http.StatusOK, "go_goroutines"},
		{"/", nil, http.StatusNotFound, ""},
	} {
		if tc.path == "/healthz" {
			sick <- tc.health
		}
		code, body := fetch(t, "http://"+m.Addr().String()+tc.path)
		if code != tc.code || !strings.Contains(body, tc.body) {
			t.Errorf("%s: got %d %q, want %d %q", tc.path, code, body, tc.code, tc.body)
		}
	}
	if _, err := daemon.NewMonitor(m.Addr().String(), daemon.NewRegistry(), nil); err == nil || !strings.HasSuffix(err.Error(), "another process uses this port") {
		t.Errorf("occupied port: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", m.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("it still listens")
	}
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
