package machine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/datapath"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/labtest"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/process"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/underlay"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// start brings machines with Open vSwitch up on one underlay.
func start(t *testing.T, addrs ...string) []*Machine {
	t.Helper()
	reaper := process.NewReaper()
	ctx, cancel := context.WithCancel(context.Background()) // cleanups still need it
	go func() { _ = reaper.Run(ctx) }()
	t.Cleanup(cancel)
	userspace, err := datapath.Of(datapath.Netdev)
	if err != nil {
		t.Fatal(err)
	}
	network, err := underlay.New(netip.MustParsePrefix("192.168.108.0/24"), userspace.ChecksumOffload)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if link, err := netlink.LinkByName("underlay"); err == nil {
			_ = netlink.LinkDel(link)
		}
	})
	var machines []*Machine
	dir := t.TempDir()
	for i, addr := range addrs {
		name := fmt.Sprintf("node%d", i+1)
		m := New(Config{
			Name: name, IP: netip.MustParseAddr(addr), Plug: "n" + name, Datapath: userspace,
			Disk: dir + "/" + name, Logs: dir, Init: labtest.NodeInit(name),
		}, reaper, network)
		boot(t, m)
		t.Cleanup(func() { _ = m.Cut() })
		machines = append(machines, m)
	}
	return machines
}

func boot(t *testing.T, m *Machine) {
	t.Helper()
	for _, step := range []func(context.Context) error{m.PowerOn, m.StartDatabase, m.StartSwitch} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, m *Machine, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := m.Run(ctx, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestMachinesReachOneAnotherOverTheirSwitchesAndSurviveAPowerFailure(t *testing.T) {
	machines := start(t, "192.168.108.11", "192.168.108.12")
	one, two := machines[0], machines[1]

	run(t, one, "ping", "-c1", "-w5", "192.168.108.12")
	if got := run(t, two, "ping", "-c3", "-i0.2", "-W5", "192.168.108.11"); strings.Contains(got, "DUP") {
		t.Errorf("the kernel sees frames twice:\n%s", got)
	}
	if got := run(t, one, "ovs-vsctl", "list-br"); got != "br-phy" {
		t.Errorf("got bridges %q, want br-phy", got)
	}
	if got := run(t, one, "hostname"); got != "node1" {
		t.Errorf("got host name %q, want node1", got)
	}
	run(t, one, "ovs-appctl", "version")

	if err := one.SetPlugged(false); err != nil || !one.Unplugged() {
		t.Fatalf("pull the cable: %v, unplugged %t", err, one.Unplugged())
	}
	if _, err := two.Run(t.Context(), "ping", "-c1", "-W1", "192.168.108.11"); err == nil {
		t.Error("it is reached without its cable")
	}
	if err := one.SetPlugged(true); err != nil || one.Unplugged() {
		t.Fatalf("put the cable in: %v, unplugged %t", err, one.Unplugged())
	}
	run(t, two, "ping", "-c1", "-w5", "192.168.108.11")

	id, err := one.ID()
	if err != nil {
		t.Fatal(err)
	}
	run(t, one, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:note=kept")
	before := one.PID()
	if err := one.Cut(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", before)); err == nil && before != 0 {
		t.Errorf("process %d is still there", before)
	}
	for _, d := range []*process.Daemon{one.Database, one.Switch} {
		if got := d.Snapshot(); got.State != process.Killed || got.Ending != "signal: killed" {
			t.Errorf("%s: got %+v, want killed", d.Name, got)
		}
	}
	if err := one.SetPlugged(false); !errors.Is(err, ErrOff) || one.Unplugged() {
		t.Errorf("the cable of a machine that is off: %v, unplugged %t", err, one.Unplugged())
	}
	boot(t, one)
	if got := run(t, one, "ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids:note"); got != "kept" {
		t.Errorf("got %q from the database after the power failure, want kept", got)
	}
	if again, err := one.ID(); err != nil || again != id {
		t.Errorf("got identity %q, %v after the power failure, want %q", again, err, id)
	}
	run(t, two, "ping", "-c1", "-w5", "192.168.108.11")
}

func TestASwitchThatIsStartedAgainCarriesTheNodeIPAgain(t *testing.T) {
	machines := start(t, "192.168.108.11", "192.168.108.12")
	one, two := machines[0], machines[1]
	if err := one.Switch.Kill(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := one.Switch.Snapshot(); got.State != process.Killed {
		t.Errorf("got %+v, want killed", got)
	}
	if err := one.StartSwitch(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, two, "ping", "-c1", "-w5", "192.168.108.11")
	if got := one.Switch.Snapshot(); got.Starts != 2 || got.State != process.Running {
		t.Errorf("got %+v, want a second start", got)
	}
}

func TestAStartThatFailsShowsTheLog(t *testing.T) {
	m := start(t, "192.168.108.11")[0]
	if err := m.Switch.Kill(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := m.Database.Kill(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.Disk("openvswitch", "conf.db"), []byte("spoiled"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := m.StartDatabase(t.Context())
	if err == nil || !strings.Contains(err.Error(), "start ovsdb-server on node1: it ended with exit status 1") ||
		!strings.Contains(err.Error(), "unexpected file format") {
		t.Errorf("got %v, want the end of ovsdb-server and its log", err)
	}
}
