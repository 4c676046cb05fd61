package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/process"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/underlay"
)

const (
	schema = "/usr/share/openvswitch/vswitch.ovsschema"
	// startTimeout bounds the start of a daemon; a loaded machine needs seconds.
	startTimeout = 60 * time.Second
)

// StartDatabase starts ovsdb-server on the machine's database, which is made when
// the disk has none, and returns when it answers.
func (m *Machine) StartDatabase(ctx context.Context) error {
	ns, err := m.Namespaces()
	if err != nil {
		return err
	}
	database := m.Disk("openvswitch", "conf.db")
	if _, err := os.Stat(database); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(m.Disk("openvswitch"), 0o755); err != nil {
			return err
		}
		if _, err := m.Run(ctx, "ovsdb-tool", "create", database, schema); err != nil {
			return fmt.Errorf("create the switch's database: %w", err)
		}
	}
	cmd := exec.Command("ovsdb-server", database, "--remote=punix:/run/openvswitch/db.sock", "--pidfile", "-vconsole:info", "-vsyslog:off", "-vfile:off")
	if err := m.Database.Start(ns, cmd); err != nil {
		return err
	}
	return m.answered(ctx, m.Database, "ovs-vsctl", "--retry", "--no-wait", "init")
}

// StartSwitch starts ovs-vswitchd and gives the machine its address, as a boot
// script would. It returns when the node IP is usable.
func (m *Machine) StartSwitch(ctx context.Context) error {
	ns, err := m.Namespaces()
	if err != nil {
		return err
	}
	args := append([]string{"unix:/run/openvswitch/db.sock", "--pidfile", "-vconsole:info", "-vsyslog:off", "-vfile:off"}, m.config.Datapath.SwitchFlags...)
	if err := m.Switch.Start(ns, exec.Command("ovs-vswitchd", args...)); err != nil {
		return err
	}
	// It returns when the switch has done it, and only a real change counts: hence
	// the time.
	change := []string{"set", "Open_vSwitch", ".", fmt.Sprintf("external_ids:lab-start=%d", time.Now().UnixNano())}
	if err := m.answered(ctx, m.Switch, "ovs-vsctl", append(change, m.physicalBridge()...)...); err != nil {
		return err
	}
	if err := m.network.Configure(ns.Net, m.uplink(), []netip.Addr{m.config.IP}, m.config.Gateway); err != nil {
		return err
	}
	if m.config.Datapath.PhysicalBridge == "" {
		return nil
	}
	if err := underlay.TransmitOffloadOff(ns.Net, m.config.Datapath.PhysicalBridge); err != nil {
		return err
	}
	return m.hideFrames(ctx)
}

// physicalBridge is what makes ovs-vsctl add the bridge that has the cable, if
// there is to be one.
func (m *Machine) physicalBridge() []string {
	name := m.config.Datapath.PhysicalBridge
	if name == "" {
		return nil
	}
	return []string{
		"--", "--may-exist", "add-br", name,
		"--", "set", "Bridge", name, "datapath_type=" + m.config.Datapath.Name, "fail_mode=standalone",
		"other_config:hwaddr=\"" + underlay.MAC(m.config.IP).String() + "\"",
		"--", "--may-exist", "add-port", name, underlay.Interface,
	}
}

// uplink is the interface that has the node IP.
func (m *Machine) uplink() string {
	return cmp.Or(m.config.Datapath.PhysicalBridge, underlay.Interface)
}

// Announce tells the other machines where this one is.
func (m *Machine) Announce() error {
	ns, err := m.Namespaces()
	if err != nil {
		return err
	}
	return underlay.Announce(ns.Net, m.uplink(), m.config.IP)
}

// hideFrames keeps what arrives on the cable from the machine's kernel: the switch
// has read it by then, and hands the kernel its part over the bridge's own port.
// Twice the same frame would be answered twice.
func (m *Machine) hideFrames(ctx context.Context) error {
	table := fmt.Sprintf(`
add table netdev lab
delete table netdev lab
table netdev lab {
	chain underlay {
		type filter hook ingress device %q priority 0; policy drop;
	}
}
`, underlay.Interface)
	if _, err := m.feed(ctx, table, "nft", "-f", "-"); err != nil {
		return fmt.Errorf("hide the cable's frames from the kernel: %w", err)
	}
	return nil
}

// answered runs a command that returns when the daemon answers, and gives up as
// soon as the daemon ends.
func (m *Machine) answered(ctx context.Context, daemon *process.Daemon, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ended := daemon.Ended()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err := m.Run(ctx, program, args...)
	if err == nil {
		return nil
	}
	select {
	case <-ended:
		err = fmt.Errorf("it ended with %s", daemon.Snapshot().Ending)
	default:
	}
	return fmt.Errorf("start %s on %s: %w; the end of its log:\n%s", daemon.Name, m.config.Name, err, daemon.Tail(10, "  "))
}
