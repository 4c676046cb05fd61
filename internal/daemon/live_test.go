package daemon_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/configfile"
	"github.com/damask-sdn/damask/internal/daemon"
)

// lively is a configuration with a field that counts at once.
type lively struct {
	Log   daemon.Log `yaml:"log"`
	Store string     `yaml:"store"`
	DNS   struct {
		Servers []string `yaml:"servers" live:"true"`
	} `yaml:"dns"`
}

// heard is what a running program was told.
type heard struct {
	mu  sync.Mutex
	all []string
	at  int // up to where a test has listened
}

func (h *heard) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, fmt.Sprintf(format, args...))
}

// then says whether something was told after what was asked for before.
func (h *heard) then(want string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := slices.Index(h.all[h.at:], want)
	h.at += found + 1
	return found >= 0
}

func TestAFieldThatIsLiveIsToldAtOnceAndOthersWait(t *testing.T) {
	r := &running{T: t, path: write(t, "store: /x\ndns: {servers: [a]}\n")}
	h := &heard{}
	ctx, cancel := context.WithCancel(context.Background())
	done, proceed := make(chan int, 1), make(chan struct{})
	program := daemon.Program[lively]{
		Name: "damask-test",
		Load: func(path string) (cfg lively, err error) {
			err = configfile.Load(path, &cfg, func(*configfile.Report) {})
			return cfg, err
		},
		Log: func(c lively) daemon.Log { return c.Log },
		RunLive: func(ctx context.Context, cfg lively, live *daemon.Live[lively], _ hclog.Logger) error {
			h.add("begins with %v", cfg.DNS.Servers)
			<-proceed
			live.OnChange(func(c lively) { h.add("asks %v", c.DNS.Servers) })
			live.OnFile(func(f daemon.File) { h.add("wrong %t, pending %v", f.Wrong != nil, f.Pending) })
			<-ctx.Done()
			return nil
		},
	}
	go func() { done <- program.Execute(ctx, []string{"-config", r.path}, &r.said, &r.said) }()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != daemon.ExitOK {
			t.Errorf("it ended with %d: %s", code, &r.said)
		}
	})
	hears := func(want string) {
		t.Helper()
		r.until(want, func() bool { return h.then(want) })
	}
	r.log = hclog.NewNullLogger()
	hears("begins with [a]")
	// What changes before anybody listens is not missed.
	replace(t, r.path, "store: /x\ndns: {servers: [b]}\n")
	r.says(`in force as they are now: fields=dns.servers`)
	close(proceed)
	hears("asks [b]")
	replace(t, r.path, "store: /y\ndns: {servers: [b]}\n")
	hears("wrong false, pending [store]")
	replace(t, r.path, "store: /y\ndns: {servers: [c]}\n")
	hears("asks [c]")
	replace(t, r.path, "stor: /y\n")
	hears("wrong true, pending []")
	replace(t, r.path, "store: /x\ndns: {servers: [c]}\nlog: {level: debug}\n")
	hears("wrong false, pending []")
	if err := os.WriteFile(r.path, []byte("store: /x\ndns: {servers: [a]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hears("asks [a]")
}
