package ovshost

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/damask-sdn/damask/internal/configfile/configfiletest"
	"github.com/damask-sdn/damask/internal/proctest"
)

const reference = "../../../deploy/config/ovs.yaml"

func TestTheReferenceFileDocumentsEveryFieldAndHoldsTheDefaults(t *testing.T) {
	configfiletest.Documented(t, reference, &Config{})
	cfg, err := Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log = Defaults().Log
	if got, want := fmt.Sprint(cfg), fmt.Sprint(Defaults()); got != want {
		t.Errorf("the reference file says %s, the defaults are %s", got, want)
	}
}

func TestEveryWrongLineIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ovs.yaml")
	if err := os.WriteFile(file, []byte("database: conf.db\nschema: x\nrunDir: ''\ncpus: -1\nlog: {level: loud}\nthreads: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(file)
	for _, part := range []string{":1: database:", ":2: schema:", ":3: runDir:", ":4: cpus:", ":5: log.level:", ":6: threads:"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("nothing about %s in %v", part, err)
		}
	}
}

func TestADaemonThatEndsIsStartedAgainAndKnowsWhatItKnew(t *testing.T) {
	h := newHost(t)
	i := h.start(t)
	h.vsctl(t, "add-br", "br0", "--", "set", "Bridge", "br0", "fail_mode=secure")
	for _, name := range []string{"ovs-vswitchd", "ovsdb-server", "ovs-vswitchd"} {
		before := h.kill(t, name)
		h.change(t, fmt.Sprintf("%s-%d", name, before)) // returns when ovs-vswitchd has it
		if h.vsctl(t, "list-br") != "br0" {
			t.Errorf("br0 is lost with %s", name)
		}
		if name == "ovs-vswitchd" && h.pid(t, name) == before {
			t.Errorf("%s of before still runs", name)
		}
	}
	i.says(t, "starting it again")
	i.Signal(syscall.SIGTERM)
	if err := i.ends(t); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	for _, name := range []string{"ovs-vswitchd", "ovsdb-server"} {
		if _, err := os.Stat(h.config.pidfile(name)); err == nil {
			t.Errorf("%s did not end in order: its pid file is there", name)
		}
	}
}

func TestASecondInstanceWaitsUntilTheFirstIsGone(t *testing.T) {
	for how, signal := range map[string]syscall.Signal{"stopped": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(how, func(t *testing.T) {
			h := newHost(t)
			first := h.start(t)
			h.vsctl(t, "add-br", "br0")
			before := h.pid(t, "ovs-vswitchd")
			second := h.start(t)
			second.says(t, "waiting until it is gone")
			h.change(t, "while the second waits")
			if h.pid(t, "ovs-vswitchd") != before {
				t.Error("the second instance touched the first one's ovs-vswitchd")
			}
			first.Signal(signal)
			_ = first.ends(t)
			h.change(t, "after the first")
			second.says(t, "the daemon runs")
			if h.pid(t, "ovs-vswitchd") == before || h.vsctl(t, "list-br") != "br0" {
				t.Error("the second instance did not go on with what the first one had")
			}
		})
	}
}

func TestAnInstanceThatWaitsCanBeStopped(t *testing.T) {
	h := newHost(t)
	h.start(t)
	h.vsctl(t, "init")
	second := h.start(t)
	second.says(t, "waiting until it is gone")
	second.Signal(syscall.SIGTERM)
	if err := second.ends(t); err != nil {
		t.Error(err)
	}
}

func TestTheHostsOwnOpenVSwitchIsWaitedFor(t *testing.T) {
	h := newHost(t)
	if err := h.config.prepare(t.Context(), discard()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(h.config.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ovsdb-server", h.config.Database, "--remote=punix:"+h.config.socket(), "--pidfile="+h.config.pidfile("ovsdb-server"), "-vsyslog:off")
	cmd.Env = h.config.environment()
	theirs := proctest.Start(t, cmd)
	h.vsctl(t, "--no-wait", "init")
	ours := h.start(t)
	ours.says(t, "a daemon that is not ours runs")
	if strings.Contains(ours.text(), "the daemon runs") {
		t.Error("it started a daemon beside the host's own")
	}
	theirs.Stop()
	h.change(t, "ours now")
}

func TestThreadsAreLimitedOnBigHostsAndTheOperatorsFiguresStay(t *testing.T) {
	for _, tc := range []struct {
		name                string
		cpus                int
		operator            []string
		handler, revalidate string
	}{
		{"twelve", 12, nil, "", ""},
		{"thirteen", 13, nil, `"10"`, `"4"`},
		{"the operator has handlers", 64, []string{"other_config:n-handler-threads=3"}, `"3"`, `"4"`},
		{"the operator has both, and few processors", 2, []string{"other_config:n-handler-threads=3", "other_config:n-revalidator-threads=2"}, `"3"`, `"2"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			if tc.operator != nil {
				first := h.start(t)
				h.vsctl(t, append([]string{"set", "Open_vSwitch", "."}, tc.operator...)...)
				first.Stop()
			}
			h.config.CPUs = tc.cpus
			h.start(t)
			h.change(t, "it runs")
			get := func(key string) string {
				return h.vsctl(t, "--if-exists", "get", "Open_vSwitch", ".", "other_config:"+key)
			}
			if handler, revalidate := get("n-handler-threads"), get("n-revalidator-threads"); handler != tc.handler || revalidate != tc.revalidate {
				t.Errorf("handlers %s, revalidators %s; want %s, %s", handler, revalidate, tc.handler, tc.revalidate)
			}
			if version := h.vsctl(t, "get", "Open_vSwitch", ".", "ovs_version"); !strings.Contains(version, ".") {
				t.Errorf("the version is %s", version)
			}
		})
	}
}
