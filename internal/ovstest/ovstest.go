// Package ovstest gives a test an Open vSwitch of its own.
//
// It owns a private ovsdb-server and ovs-vswitchd: their database, sockets, pid
// files and logs are in the test's temporary directory and the daemons run in a
// network namespace of the test. They end with the test, however the test ends.
//
// It promises that Start returns only when the switch answers, and that nothing of
// the machine's own Open vSwitch or network is read or changed.
// Used by the tests of openflow, flowsync, bridge, attach and by test/traces.
package ovstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
)

// Datapath is the kind of packet engine that the switch runs.
type Datapath int

const (
	// Dummy forwards no real packet: ports need no device, every datapath_type is
	// accepted and means the dummy. For flows and ofproto/trace; starts fastest.
	Dummy Datapath = iota
	// Netdev is the userspace datapath with real devices in the namespace. Bridges
	// must be created with datapath_type=netdev.
	Netdev
)

const (
	schema = "/usr/share/openvswitch/vswitch.ovsschema"
	// waitSeconds bounds each question to a daemon. It only matters when a
	// daemon hangs: a daemon that ends is noticed at once.
	waitSeconds = "30"
	// logTail is how many bytes of each log are shown when a test fails.
	logTail = 4000
)

// Options say what kind of switch Start makes. The zero value is right for flows.
type Options struct {
	// Namespace is where ovs-vswitchd runs. Nil: a fresh one.
	Namespace *netnstest.Namespace
	// Datapath is Dummy or Netdev.
	Datapath Datapath
}

// Switch is a running Open vSwitch.
type Switch struct {
	dir      string
	ns       *netnstest.Namespace
	datapath Datapath
	database *proctest.Process
	vswitchd *proctest.Process
}

// Start starts a switch without any bridge, and stops it when the test ends.
func Start(t testing.TB, options Options) *Switch {
	t.Helper()
	proctest.Need(t, "ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ovs-appctl")
	s := &Switch{dir: shortDir(t), ns: options.Namespace, datapath: options.Datapath}
	if s.ns == nil {
		s.ns = netnstest.New(t, "switch")
	}
	t.Cleanup(func() { s.showLogs(t) })
	s.run(t, exec.Command("ovsdb-tool", "create", s.path("conf.db"), schema))
	s.database = s.daemon(t, "ovsdb-server", s.path("conf.db"), "--remote=punix:"+s.DBSocket())
	s.awaitSocket(t)
	s.await(t, s.database, "ovs-vsctl", "--no-wait", "init")
	s.StartVswitchd(t)
	return s
}

// daemon starts one of the two daemons.
func (s *Switch) daemon(t testing.TB, name string, args ...string) *proctest.Process {
	t.Helper()
	args = append(args,
		"--unixctl="+s.path(name+".ctl"), "--pidfile="+s.path(name+".pid"),
		"--log-file="+s.path(name+".log"), "-vconsole:off", "-vfile:info")
	cmd := s.ns.Command(name, args...)
	cmd.Env = s.Env()
	return proctest.Start(t, cmd)
}

// StartVswitchd starts ovs-vswitchd, after StopVswitchd or KillVswitchd, and
// returns when it has taken over the database's configuration.
func (s *Switch) StartVswitchd(t testing.TB) {
	t.Helper()
	args := []string{"unix:" + s.DBSocket()}
	if s.datapath == Dummy {
		args = append(args, "--enable-dummy=override", "--disable-system", "--disable-system-route")
	}
	s.vswitchd = s.daemon(t, "ovs-vswitchd", args...)
	// ovs-vsctl returns from a change only when ovs-vswitchd has acted on it, and
	// only a real change counts: hence the pid, which is another one each time.
	s.await(t, s.vswitchd, "ovs-vsctl", "set", "Open_vSwitch", ".",
		"external_ids:ovstest-pid="+pidText(s.vswitchd))
}

// StopVswitchd ends ovs-vswitchd as an orderly restart does.
func (s *Switch) StopVswitchd() { s.vswitchd.Stop() }

// KillVswitchd ends ovs-vswitchd as kill -9 does.
func (s *Switch) KillVswitchd() { s.vswitchd.Kill() }

// Command is a command with the switch's environment, in its namespace: plain
// ovs-vsctl, ovs-ofctl, ovs-dpctl and ovs-appctl in it work on this switch.
func (s *Switch) Command(program string, args ...string) *exec.Cmd {
	cmd := s.ns.Command(program, args...)
	cmd.Env = s.Env()
	return cmd
}

// Vsctl runs ovs-vsctl and returns its output without the last newline. It returns
// when ovs-vswitchd has acted on the change. It fails the test on an error.
func (s *Switch) Vsctl(t testing.TB, args ...string) string {
	t.Helper()
	return s.run(t, s.Command("ovs-vsctl", append([]string{"--timeout=" + waitSeconds}, args...)...))
}

// Ofctl runs ovs-ofctl with OpenFlow 1.3 and returns its output without the last
// newline. It fails the test on an error.
func (s *Switch) Ofctl(t testing.TB, args ...string) string {
	t.Helper()
	return s.run(t, s.Command("ovs-ofctl", append([]string{"--timeout=" + waitSeconds, "-O", "OpenFlow13"}, args...)...))
}

// AddBridge adds a bridge as Damask uses them: fail mode secure and OpenFlow 1.3.
// A switch with the Dummy datapath gets datapath_type=dummy, else netdev.
func (s *Switch) AddBridge(t testing.TB, name string) {
	t.Helper()
	kind := "dummy"
	if s.datapath == Netdev {
		kind = "netdev"
	}
	s.Vsctl(t, "add-br", name, "--", "set", "Bridge", name,
		"datapath_type="+kind, "fail_mode=secure", "protocols=OpenFlow13,OpenFlow14,OpenFlow15")
}

// Dir is the directory of the sockets, logs and the database (OVS_RUNDIR).
func (s *Switch) Dir() string { return s.dir }

// Namespace is where ovs-vswitchd runs.
func (s *Switch) Namespace() *netnstest.Namespace { return s.ns }

// DBSocket is the path of ovsdb-server's socket, without "unix:".
func (s *Switch) DBSocket() string { return s.path("db.sock") }

// MgmtSocket is the path of a bridge's OpenFlow socket, without "unix:". It exists
// as long as the bridge does.
func (s *Switch) MgmtSocket(bridge string) string { return s.path(bridge + ".mgmt") }

// VswitchdPid is the process number of ovs-vswitchd.
func (s *Switch) VswitchdPid() int { return s.vswitchd.Pid() }

// Env is the test's environment with the OVS_ variables of this switch.
func (s *Switch) Env() []string {
	return append(os.Environ(),
		"OVS_RUNDIR="+s.dir, "OVS_LOGDIR="+s.dir, "OVS_DBDIR="+s.dir, "OVS_SYSCONFDIR="+s.dir)
}

func (s *Switch) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Switch) run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n")
}
