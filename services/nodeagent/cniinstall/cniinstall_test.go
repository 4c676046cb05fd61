package cniinstall

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/hashicorp/go-hclog"
)

// node is a node's directories, and an agent that says what the test wants.
type node struct {
	Install
	ready, asked atomic.Bool
	askedTwice   chan struct{}
}

func newNode(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	n := &node{askedTwice: make(chan struct{}, 1)}
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !n.ready.Load() {
			http.Error(w, "no subnet yet", http.StatusServiceUnavailable)
		}
		if n.asked.Swap(true) {
			select {
			case n.askedTwice <- struct{}{}:
			default:
			}
		}
	}))
	t.Cleanup(agent.Close)
	n.Install = Install{
		Plugin: filepath.Join(dir, "image", "damask-cni"), Plugins: filepath.Join(dir, "opt"),
		Configuration: filepath.Join(dir, "net.d", "10-damask.conflist"), Ready: agent.URL,
	}
	if err := os.Mkdir(filepath.Dir(n.Plugin), 0o755); err != nil {
		t.Fatal(err)
	}
	n.image(t, "first")
	return n
}

// image puts another plugin into the image.
func (n *node) image(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(n.Plugin, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
}

func (n *node) install(t *testing.T) os.FileInfo {
	t.Helper()
	if err := n.InstallPlugin(hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(n.Plugins, "damask-cni"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o755 {
		t.Errorf("the plugin has mode %v", info.Mode())
	}
	return info
}

func TestAPluginThatRunsIsNotWrittenOver(t *testing.T) {
	n := newNode(t)
	first := n.install(t)
	running, err := os.Open(filepath.Join(n.Plugins, "damask-cni"))
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	if again := n.install(t); !os.SameFile(first, again) {
		t.Error("the same plugin was installed again")
	}
	n.image(t, "second, which is longer")
	if second := n.install(t); os.SameFile(first, second) {
		t.Error("the plugin was written over")
	}
	was := make([]byte, 64)
	if size, err := running.Read(was); err != nil || string(was[:size]) != "first" {
		t.Errorf("who runs the first plugin finds %q (%v)", was[:size], err)
	}
	left, err := os.ReadDir(n.Plugins)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestTheConfigurationComesWhenTheNodeIsReady(t *testing.T) {
	n := newNode(t)
	done := make(chan error, 1)
	go func() { done <- n.Configure(t.Context(), hclog.NewNullLogger()) }()
	<-n.askedTwice
	if _, err := os.Stat(n.Configuration); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a configuration before the node is ready (%v)", err)
	}
	n.ready.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	list, err := libcni.ConfListFromFile(n.Configuration) //nolint:staticcheck // what containerd 1.6 calls
	if err != nil {
		t.Fatal(err)
	}
	if list.CNIVersion != "1.1.0" {
		t.Errorf("a runtime that knows 1.1.0 takes %s", list.CNIVersion)
	}
	var older struct{ CNIVersion string } // what one reads that does not know cniVersions
	if err := json.Unmarshal(list.Bytes, &older); err != nil || older.CNIVersion != "1.0.0" {
		t.Errorf("a runtime that knows 1.0.0 takes %s (%v)", older.CNIVersion, err)
	}
	var plugin struct{ Capabilities map[string]bool }
	if len(list.Plugins) != 1 || list.Plugins[0].Network.Type != "damask-cni" {
		t.Fatalf("the runtime reads %s", list.Bytes)
	}
	if err := json.Unmarshal(list.Plugins[0].Bytes, &plugin); err != nil || !plugin.Capabilities["portMappings"] || !plugin.Capabilities["bandwidth"] {
		t.Errorf("capabilities %v (%v)", plugin.Capabilities, err)
	}
}

// TestANameOfAnotherPluginIsTakenWhenTheNodeIsReady: until then the other one's agent may
// be at work, and its plugin is needed.
func TestANameOfAnotherPluginIsTakenWhenTheNodeIsReady(t *testing.T) {
	n := newNode(t)
	n.Aliases = []string{"openshift-sdn"}
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	n.install(t)
	other := filepath.Join(n.Plugins, "openshift-sdn")
	if err := os.WriteFile(other, []byte("the other"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Configure(t.Context(), hclog.NewNullLogger()) }()
	<-n.askedTwice
	if text, err := os.ReadFile(other); err != nil || string(text) != "the other" {
		t.Errorf("before the node is ready it is %q (%v)", text, err)
	}
	n.ready.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "first" {
		t.Errorf("when the node is ready it is %q (%v)", text, err)
	}
	info, err := os.Stat(other)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("it has mode %v (%v)", info.Mode(), err)
	}
}

func TestEveryWrongNameIsRefused(t *testing.T) {
	err := Install{Plugin: "/usr/bin/damask-cni", Aliases: []string{"", "..", "a/b", "x", "x", "damask-cni"}}.Check()
	for _, says := range []string{`alias "" is not`, `".." is not`, `"a/b" is not`, `"x" is there twice`, `"damask-cni" is there twice`, "needs the URL"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the error does not say %q: %v", says, err)
		}
	}
}

func TestWhoStopsBeforeTheNodeIsReadyLeavesNothing(t *testing.T) {
	n := newNode(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Configure(ctx, hclog.NewNullLogger()) }()
	<-n.askedTwice
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.Configuration); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a configuration (%v)", err)
	}
}
