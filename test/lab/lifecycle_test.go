package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

const wishes = `
nodes: [{name: node1, subnet: 10.128.0.0/23}, {name: node2, subnet: 10.131.0.0/23}]
replicas: {ipam: 2, tenancy: 2, servicelb: 2}
namespaces: [{name: red, vnid: 100}]
pods:
- {namespace: red, name: fixed, node: node1, ip: 10.128.0.50, ofport: 40, labels: {app: web}}
- {namespace: red, name: any, node: node1}
- {namespace: red, name: far, node: node2}
`

// eventually waits for what the lab's interfaces offer no wait for.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !met(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func alive(pid uint32) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

func TestALabLivesThroughEveryFailureThatItCanMake(t *testing.T) {
	c := up(t, wishes)
	t.Run("what is wished for is given", c.wantWishes)
	t.Run("exec passes everything through", c.wantExec)
	t.Run("a killed process stays down until it is started", c.wantKillAndStart)
	t.Run("a replica that is killed is not missed", c.wantReplicas)
	t.Run("a node survives a power failure with its disk", c.wantPowerFailure)
	t.Run("a pod's processes end with the pod", c.wantPodEnds)
}

func (c *cluster) wantWishes(t *testing.T) {
	fixed := c.pod("red/fixed")
	if fixed.GetIps()[0] != "10.128.0.50" || fixed.GetLabels()["app"] != "web" {
		t.Errorf("got %v", fixed)
	}
	if got := c.exec(onNode("node1"), "ovs-vsctl", "--bare", "--columns=name", "find", "Interface", "ofport=40"); strings.TrimSpace(got) == "" {
		t.Error("no interface has port 40")
	}
	if got := c.node("node2").GetSubnet(); got != "10.131.0.0/23" {
		t.Errorf("node2 has subnet %s", got)
	}
	routes := c.exec(onOutside("outside"), "ip", "route")
	for _, n := range []string{"node1", "node2"} {
		if want := c.node(n).GetSubnet() + " via " + c.nodeIP(n); !strings.Contains(routes, want) {
			t.Errorf("the outside host has no route %s:\n%s", want, routes)
		}
	}
}

func (c *cluster) wantExec(t *testing.T) {
	cmd := c.command(inPod("red/any"), "sh", "-c", "cat; echo err >&2; exit 42")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("in"), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 42 || stdout.String() != "in" || stderr.String() != "err\n" {
		t.Errorf("got %v, output %q, errors %q", err, &stdout, &stderr)
	}
	for _, ended := range []struct {
		args []string
		code int
	}{{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15}, {[]string{"nonexistent-program"}, 127}, {[]string{"/etc/passwd"}, 126}} {
		if err := c.command(onNode("node1"), ended.args...).Run(); !errors.As(err, &exit) || exit.ExitCode() != ended.code {
			t.Errorf("%v: got %v, want exit code %d", ended.args, err, ended.code)
		}
	}
	if got := strings.TrimSpace(c.exec(onNode("node2"), "hostname")); got != "node2" {
		t.Errorf("the host name on node2 is %q", got)
	}
	// Relative paths mean what they mean to the caller.
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(c.exec(onNode("node2"), "pwd")); got != here {
		t.Errorf("the working directory on node2 is %q, want %q", got, here)
	}
	t.Run("and the command ends with it", func(t *testing.T) {
		cmd := c.command(onNode("node1"), "sleep", "54321")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sleeping := func() bool { return c.command(onNode("node1"), "pgrep", "-f", "^sleep 54321").Run() == nil }
		eventually(t, "the command runs", sleeping)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		eventually(t, "the command has ended", func() bool { return !sleeping() })
	})
}

func find(t *testing.T, processes []*labv1.Process, name string) *labv1.Process {
	t.Helper()
	for _, p := range processes {
		if p.GetName() == name {
			return p
		}
	}
	t.Fatalf("there is no process %s", name)
	return nil
}

func (c *cluster) wantKillAndStart(t *testing.T) {
	for _, name := range []string{"nodeagent", "ovs-vswitchd", "ovsdb-server"} {
		c.refresh()
		before := find(t, c.node("node1").GetProcesses(), name)
		c.run("lab", "kill", "--name", c.name, "node1", name)
		if alive(before.GetPid()) {
			t.Errorf("%s was killed, but process %d lives", name, before.GetPid())
		}
		c.refresh()
		if got := find(t, c.node("node1").GetProcesses(), name); got.GetState() != labv1.ProcessState_PROCESS_STATE_KILLED || got.GetEnding() != "signal: killed" {
			t.Errorf("%s: got %v", name, got)
		}
		c.run("lab", "start", "--name", c.name, "node1", name)
		c.refresh()
		if got := find(t, c.node("node1").GetProcesses(), name); got.GetState() != labv1.ProcessState_PROCESS_STATE_RUNNING || got.GetStarts() != before.GetStarts()+1 {
			t.Errorf("%s after the start: got %v", name, got)
		}
		wantAll(t, inPod("red/any"), c.check(inPod("red/any"), "icmp "+c.podIP("red/far")+" 56"))
	}
	// An end that nobody asked for is told apart.
	c.exec(onNode("node2"), "pkill", "-QUIT", "damask-nodeagen")
	eventually(t, "the agent of node2 has ended by itself", func() bool {
		c.refresh()
		return find(t, c.node("node2").GetProcesses(), "nodeagent").GetState() == labv1.ProcessState_PROCESS_STATE_EXITED
	})
	c.run("lab", "start", "--name", c.name, "node2")
}

func (c *cluster) wantReplicas(t *testing.T) {
	for _, service := range []string{"ipam", "tenancy", "servicelb"} {
		c.run("lab", "kill", "--name", c.name, service, service+"-1")
	}
	c.ctl("get", "hostsubnets")
	c.ctl("get", "services")
	c.run("lab", "pod", "add", "--name", c.name, "green/a", "--node", "node1")
	c.run("lab", "pod", "delete", "--name", c.name, "green/a")
	for _, service := range []string{"ipam", "tenancy", "servicelb"} {
		c.run("lab", "start", "--name", c.name, service)
	}
	for _, s := range c.refresh().GetServices() {
		for _, p := range s.GetProcesses() {
			if p.GetState() != labv1.ProcessState_PROCESS_STATE_RUNNING {
				t.Errorf("%s does not run: %v", p.GetName(), p)
			}
		}
	}
}

func (c *cluster) wantPowerFailure(t *testing.T) {
	c.exec(onNode("node1"), "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:note=kept")
	c.refresh()
	before := c.node("node1")
	sandbox := c.pod("red/fixed").GetSandboxId()
	c.run("lab", "kill", "--name", c.name, "node1")
	for _, p := range before.GetProcesses() {
		if alive(p.GetPid()) {
			t.Errorf("%s lives after the power failure", p.GetName())
		}
	}
	if out, err := c.try("lab", "node", "exec", "--name", c.name, "node1", "--", "true"); err == nil || !strings.Contains(out, "is off") {
		t.Errorf("exec on a node that is off: %v, %s", err, out)
	}
	if out, err := c.try("lab", "pod", "exec", "--name", c.name, "red/any", "--", "true"); err == nil || !strings.Contains(out, "is off") {
		t.Errorf("exec in a pod of a node that is off: %v, %s", err, out)
	}
	c.exec(inPod("red/far"), "true")

	c.run("lab", "start", "--name", c.name, "node1")
	c.refresh()
	if got := c.pod("red/fixed"); got.GetIps()[0] != "10.128.0.50" || got.GetSandboxId() == sandbox {
		t.Errorf("the pod came back as %v, want its address in a new sandbox", got)
	}
	if got := c.exec(onNode("node1"), "ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids:note"); strings.TrimSpace(got) != "kept" {
		t.Errorf("the database has %q", got)
	}
	if got := c.node("node1").GetSubnet(); got != before.GetSubnet() {
		t.Errorf("the node's subnet was %s and is %s", before.GetSubnet(), got)
	}
	wantAll(t, inPod("red/far"), c.check(inPod("red/far"), "icmp "+c.podIP("red/fixed")+" 56", "icmp "+c.podIP("red/any")+" 56"))
	// Nothing of the former sandboxes is left: a port and a namespace a pod, no more.
	if got := strings.Count(c.exec(onNode("node1"), "ovs-vsctl", "list-ports", "br0"), "veth"); got != 2 {
		t.Errorf("br0 has %d pod ports, want 2", got)
	}
	if got := len(strings.Fields(c.exec(onNode("node1"), "ls", "/run/netns"))); got != 2 {
		t.Errorf("there are %d network namespaces, want 2", got)
	}
}

func (c *cluster) wantPodEnds(t *testing.T) {
	c.run("lab", "pod", "add", "--name", c.name, "red/short", "--node", "node2", "--label", "a=b")
	c.exec(inPod("red/short"), "sh", "-c", "sleep 65432 >/dev/null 2>&1 &")
	c.exec(onNode("node2"), "pgrep", "-f", "^sleep 65432")
	c.run("lab", "pod", "delete", "--name", c.name, "red/short")
	eventually(t, "the pod's process has ended", func() bool {
		return c.command(onNode("node2"), "pgrep", "-f", "^sleep 65432").Run() != nil
	})
	if out, err := c.try("lab", "pod", "delete", "--name", c.name, "red/short"); err == nil || !strings.Contains(out, "no such pod") {
		t.Errorf("a second delete: %v, %s", err, out)
	}
}

func TestAnUpThatIsInterruptedLeavesNothing(t *testing.T) {
	name := labName(t)
	start := func(t *testing.T) *exec.Cmd {
		t.Helper()
		cmd := exec.Command(damaskBinary, "lab", "up", "--name", name, "--nodes", "3", "--datapath", datapath())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// It is in the middle when the nodes boot.
		var seen bytes.Buffer
		for buf := make([]byte, 1024); !strings.Contains(seen.String(), "booting"); {
			n, err := out.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				t.Fatalf("up ended early: %v\n%s", err, &seen)
			}
		}
		return cmd
	}
	supervised := func() bool { return exec.Command("pgrep", "-f", "lab-supervisor "+name+" ").Run() == nil }
	dir := filepath.Join("/var/lib/damask-lab", name)

	t.Run("by a person", func(t *testing.T) {
		cmd := start(t)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("it was interrupted and succeeded")
		}
		if _, err := os.Stat(dir); err == nil || supervised() {
			t.Errorf("something is left: %s, a supervisor: %t", dir, supervised())
		}
	})
	t.Run("by kill -9", func(t *testing.T) {
		cmd := start(t)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		eventually(t, "the supervisor has ended", func() bool { return !supervised() })
		if out, err := exec.Command(damaskBinary, "lab", "down", "--name", name).CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	})
}
