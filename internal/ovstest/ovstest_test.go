package ovstest_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

func TestDummySwitchTakesFlowsAndTracesThem(t *testing.T) {
	sw := ovstest.Start(t, ovstest.Options{})
	sw.AddBridge(t, "br0")
	sw.Vsctl(t, "add-port", "br0", "p1", "--", "set", "Interface", "p1", "type=dummy", "ofport_request=7")
	sw.Ofctl(t, "add-flow", "br0", "table=0,priority=5,ip actions=output:7")
	got := sw.Appctl(t, "ofproto/trace", "br0", "in_port=LOCAL,ip")
	if !strings.Contains(got, "output:7") {
		t.Errorf("trace does not show the flow's action:\n%s", got)
	}
	if _, err := net.Dial("unix", sw.MgmtSocket("br0")); err != nil {
		t.Errorf("dial the bridge's management socket: %v", err)
	}
	if _, err := net.Dial("unix", sw.DBSocket()); err != nil {
		t.Errorf("dial the database's socket: %v", err)
	}
}

func TestNetdevSwitchCarriesPacketsBetweenTwoNamespaces(t *testing.T) {
	ns := netnstest.New(t, "node")
	sw := ovstest.Start(t, ovstest.Options{Namespace: ns, Datapath: ovstest.Netdev})
	sw.AddBridge(t, "br0")
	for _, pod := range []struct{ name, port, address string }{{"a", "pa", "10.9.0.1/24"}, {"b", "pb", "10.9.0.2/24"}} {
		inside := netnstest.New(t, pod.name)
		ns.Connect(t, pod.port, inside, "eth0")
		ns.Run(t, "ip", "link", "set", pod.port, "up")
		inside.Run(t, "ip", "link", "set", "eth0", "up")
		inside.Run(t, "ip", "address", "add", pod.address, "dev", "eth0")
		sw.Vsctl(t, "add-port", "br0", pod.port)
		if pod.name == "b" {
			sw.Ofctl(t, "add-flow", "br0", "actions=NORMAL")
			inside.Run(t, "ping", "-c", "1", "-w", "3", "10.9.0.1")
			sw.Ofctl(t, "del-flows", "br0")
			if err := inside.Command("ping", "-c", "1", "-W", "1", "10.9.0.1").Run(); err == nil {
				t.Error("ping still passes without any flow: packets go around the switch")
			}
		}
	}
}

func TestVswitchdComesBackWithItsBridgesAfterKill(t *testing.T) {
	sw := ovstest.Start(t, ovstest.Options{})
	sw.AddBridge(t, "br0")
	before := sw.VswitchdPid()
	sw.KillVswitchd()
	sw.StartVswitchd(t)
	if sw.VswitchdPid() == before {
		t.Error("the process number did not change")
	}
	if got := sw.Ofctl(t, "dump-flows", "br0"); strings.Contains(got, "actions") {
		t.Errorf("flows survived kill -9 of ovs-vswitchd: %s", got)
	}
}

func TestSwitchDiesWithItsTestProcess(t *testing.T) {
	if os.Getenv("OVSTEST_VICTIM") == "1" {
		sw := ovstest.Start(t, ovstest.Options{})
		pids := sw.Command("sh", "-c", "cat "+sw.Dir()+"/*.pid")
		out, err := pids.Output()
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("pids " + strings.Join(strings.Fields(string(out)), " ") + "\n")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	proctest.Need(t, "ovs-vswitchd")
	victim := exec.Command(os.Args[0], "-test.run=^TestSwitchDiesWithItsTestProcess$")
	// The victim cannot tidy up, so its files go where this test does.
	temp, err := os.MkdirTemp("/tmp", "victim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	victim.Env = append(os.Environ(), "OVSTEST_VICTIM=1", "GOTMPDIR="+temp, "TMPDIR="+temp)
	out, err := victim.Output()
	if err == nil {
		t.Fatalf("the victim was not killed: %s", out)
	}
	_, list, found := strings.Cut(string(out), "pids ")
	pids := strings.Fields(list)
	if !found || len(pids) != 2 {
		t.Fatalf("the victim started no switch: %s", out)
	}
	for _, pid := range pids {
		waitGone(t, pid)
	}
}

// waitGone waits for the end of a process that is not our child. A pidfd is
// readable when the process has ended.
func waitGone(t *testing.T, pid string) {
	t.Helper()
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return // gone already
	}
	if name := strings.TrimSpace(string(comm)); !strings.HasPrefix(name, "ovs") {
		return // the number is somebody else's by now
	}
	awaitPidfd(t, pid)
}
