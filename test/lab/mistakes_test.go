package lab

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// machine is what a lab could leave behind on the host.
func machine(t *testing.T) string {
	t.Helper()
	var all []string
	for _, args := range [][]string{
		{"ip", "-o", "link"}, {"ip", "-4", "route", "show", "table", "all"}, {"ip", "netns", "list"},
		{"iptables-save"}, {"nft", "list", "ruleset"}, {"sh", "-c", "ls -d /var/lib/damask-lab/" + labPrefix() + "* 2>/dev/null; true"},
		{"sh", "-c", "cat /proc/sys/net/ipv4/ip_forward; grep -c . /proc/mounts"},
		// The rest of a lab cannot outlive its supervisor: it is their process 1.
		{"sh", "-c", "ps -eo args= | grep -E 'lab-supervisor " + labPrefix() + "|damask-lab/" + labPrefix() + "' | grep -v grep; true"},
	} {
		out, _ := exec.Command(args[0], args[1:]...).CombinedOutput()
		all = append(all, strings.Join(args, " ")+":", withoutComments(string(out)))
	}
	return strings.Join(all, "\n")
}

// withoutComments drops the lines in which iptables-save says the time.
func withoutComments(s string) string {
	var kept []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// wantSameLines reports the lines that only one of two texts has.
func wantSameLines(t *testing.T, what, before, after string) {
	t.Helper()
	count := map[string]int{}
	for line := range strings.Lines(before) {
		count[line]--
	}
	for line := range strings.Lines(after) {
		count[line]++
	}
	for line, n := range count {
		switch {
		case n > 0:
			t.Errorf("%s has this since the test began: %s", what, line)
		case n < 0:
			t.Errorf("%s has lost this: %s", what, line)
		}
	}
}

func TestEachMistakeGivesOneClearSentenceAndLeavesNothing(t *testing.T) {
	before := machine(t)
	topology := func(t *testing.T, text string) string {
		file := filepath.Join(t.TempDir(), "topology.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	name := labName(t)
	up := func(args ...string) *exec.Cmd {
		return exec.Command(damaskBinary, append([]string{"lab", "up", "--name", name}, args...)...)
	}
	for _, test := range []struct {
		what string
		cmd  func(t *testing.T) *exec.Cmd
		says []string
	}{
		{"Open vSwitch is not installed", func(t *testing.T) *exec.Cmd {
			cmd := up()
			cmd.Env = append(os.Environ(), "PATH="+t.TempDir())
			return cmd
		}, []string{"ovs-vswitchd"}},
		{"the caller is not root", func(t *testing.T) *exec.Cmd {
			copied := filepath.Join(t.TempDir(), "damask")
			data, err := os.ReadFile(damaskBinary)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(copied, data, 0o755); err != nil {
				t.Fatal(err)
			}
			for dir := filepath.Dir(copied); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				os.Chmod(dir, 0o755)
			}
			cmd := exec.Command(copied, "lab", "up", "--name", name)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			return cmd
		}, []string{"root"}},
		{"the topology has an unknown field", func(t *testing.T) *exec.Cmd {
			return up("-f", topology(t, "nodes: [{name: node1}]\ncolour: red\n"))
		}, []string{"topology.yaml:2: colour"}},
		{"the topology is wrong in several places", func(t *testing.T) *exec.Cmd {
			return up("-f", topology(t, "mode: open\nclusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 40}]\nnodes: [{name: node1}, {name: node1}]\npods: [{namespace: red, name: a, node: nowhere}]\n"))
		}, []string{":1: mode", ":2: clusterNetworks[0]", ":3: nodes[1]", ":4: pods[0]"}},
		{"the topology asks for what is not there yet", func(t *testing.T) *exec.Cmd {
			return up("-f", topology(t, "nodes: [{name: node1}]\nservices: [{namespace: red, name: web}]\n"))
		}, []string{"topology.yaml:2: services"}},
		{"the topology file is not there", func(t *testing.T) *exec.Cmd { return up("-f", "/nonexistent/topology.yaml") }, []string{"/nonexistent/topology.yaml"}},
		{"the lab is not up", func(*testing.T) *exec.Cmd {
			return exec.Command(damaskBinary, "get", "nodes", "--lab", "nosuchlab")
		}, []string{"nosuchlab"}},
		{"a pod of a lab that is not up", func(*testing.T) *exec.Cmd {
			return exec.Command(damaskBinary, "lab", "pod", "exec", "--name", "nosuchlab", "red/a", "--", "true")
		}, []string{"nosuchlab"}},
		{"a service's port is taken", func(t *testing.T) *exec.Cmd { return occupied(t) }, []string{"another process uses"}},
	} {
		t.Run(test.what, func(t *testing.T) {
			out, err := test.cmd(t).CombinedOutput()
			if err == nil {
				t.Fatalf("it was accepted:\n%s", out)
			}
			for _, part := range test.says {
				if !strings.Contains(string(out), part) {
					t.Errorf("the error does not say %q:\n%s", part, out)
				}
			}
			if lines := strings.Count(strings.TrimSpace(string(out)), "\n") + 1; lines > len(test.says)+1 {
				t.Errorf("%d lines where one a problem would do:\n%s", lines, out)
			}
		})
	}
	wantSameLines(t, "the machine", before, machine(t))
}

// occupied prepares a NATS server whose port somebody else has.
func occupied(t *testing.T) *exec.Cmd {
	t.Helper()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	return natsAt(t, taken.Addr().String())
}

func TestALabLeavesTheMachineAsItWas(t *testing.T) {
	before := machine(t)
	t.Run("down", func(t *testing.T) {
		c := up(t, "nodes: [{name: node1}]\npods: [{namespace: red, name: a, node: node1}]\n")
		c.exec(inPod("red/a"), "true")
	})
	t.Run("crash", func(t *testing.T) {
		c := up(t, "nodes: [{name: node1}]\n")
		if err := syscall.Kill(int(c.refresh().GetPid()), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	})
	wantSameLines(t, "the machine", before, machine(t))
}

func TestTwoLabsRunSideBySide(t *testing.T) {
	topology := "nodes: [{name: node1}, {name: node2}]\npods: [{namespace: red, name: a, node: node1}, {namespace: red, name: b, node: node2}]\n"
	first := up(t, topology)
	second := upAs(t, labName(t)+"b", topology)
	for _, c := range []*cluster{first, second} {
		c.start(inPod("red/b"), "serve", port, c.name)
		for _, r := range c.check(inPod("red/a"), "tcp "+c.podIP("red/b")+":"+port+" 1000", "icmp "+c.podIP("red/b")+" 56") {
			if !r.OK || (r.Server != "" && r.Server != c.name) {
				t.Errorf("lab %s: %+v", c.name, r)
			}
		}
	}
	if first.podIP("red/a") != second.podIP("red/a") {
		t.Errorf("the labs do not use the same addresses (%s and %s), so they prove nothing", first.podIP("red/a"), second.podIP("red/a"))
	}
}
