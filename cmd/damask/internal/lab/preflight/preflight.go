// Package preflight says why a lab cannot be started here, before anything is.
//
// It owns the list of what a lab needs of a machine. It promises one sentence a
// problem, each with what to do about it. It must not change anything.
package preflight

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// program is something that a lab starts.
type program struct {
	name   string
	debian string
}

// programs are what nodes and agents start, and the Debian packages of each.
func programs() []program {
	return []program{
		{"ovsdb-server", "openvswitch-switch"}, {"ovs-vswitchd", "openvswitch-switch"},
		{"ovsdb-tool", "openvswitch-common"}, {"ovs-vsctl", "openvswitch-switch"},
		{"iptables", "iptables"}, {"nft", "nftables"},
	}
}

// damask are the programs of this project that a lab starts.
func damask() []string {
	return []string{"damask-nats", "damask-ipam", "damask-tenancy", "damask-servicelb", "damask-egress", "damask-nodeagent", "damask-cni"}
}

// Root is the error for a caller that is not root.
func Root() error {
	if os.Geteuid() != 0 {
		return errors.New("a lab makes network namespaces, which only root may: run this as root")
	}
	return nil
}

// Check tells whether a lab can be started: by root, with everything installed.
// binaries is the directory of this project's programs. The error is one sentence.
func Check(binaries string) error {
	if err := Root(); err != nil {
		return err
	}
	var missing, packages []string
	for _, p := range programs() {
		if _, err := exec.LookPath(p.name); err != nil {
			missing = append(missing, p.name)
			if !strings.Contains(strings.Join(packages, " "), p.debian) {
				packages = append(packages, p.debian)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed, or not in PATH: %s (`make packages` installs what is missing; on Debian: apt-get install %s)",
			strings.Join(missing, ", "), strings.Join(packages, " "))
	}
	missing = nil
	for _, name := range damask() {
		if _, err := exec.LookPath(filepath.Join(binaries, name)); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not built: %s should be in %s (`make build`)", strings.Join(missing, ", "), binaries)
	}
	return nil
}
