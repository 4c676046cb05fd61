package kubescale

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// referencePlugins is where Debian puts the CNI project's plugins.
const referencePlugins = "/usr/lib/cni"

// plugin is a CNI plugin and its configuration.
type plugin struct{ path, config string }

// ours is Damask's plugin.
func (l *lab) ours() plugin {
	return plugin{l.directory("../../bin") + "/damask-cni", `{"cniVersion":"1.0.0","name":"damask","type":"damask-cni","socket":"/run/damask/cni.sock"}`}
}

// reference is the CNI project's plugin for pods of a single node.
func (l *lab) reference() plugin {
	return plugin{referencePlugins + "/bridge", fmt.Sprintf(`{"cniVersion":"1.0.0","name":"reference","type":"bridge","bridge":"cni0","isGateway":true,
		"ipam":{"type":"host-local","subnet":"10.99.0.0/23","dataDir":%q,"routes":[{"dst":"0.0.0.0/0"}]}}`, l.TempDir())}
}

// sandbox is what a runtime makes for a pod before it calls a plugin: a network namespace on
// a node.
type sandbox struct {
	node            *node
	id              string
	plugin          plugin
	namespace, name string
	uid             string // of its Pod
	ip              netip.Addr
}

func (l *lab) sandbox(n *node, p plugin, namespace, name string) *sandbox {
	l.Helper()
	s := &sandbox{node: n, plugin: p, namespace: namespace, name: name, id: namespace + "-" + name}
	if out, err := n.command("ip", "netns", "add", s.id).CombinedOutput(); err != nil {
		l.Fatalf("make a sandbox: %v\n%s", err, out)
	}
	return s
}

// command is a command in the node's namespaces.
func (n *node) command(program string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", strconv.Itoa(n.pid), "--mount", "--net", "--uts", "--pid", "--", program}, args...)...)
}

// network is where the pod is.
func (s *sandbox) network() place {
	return place(fmt.Sprintf("/proc/%d/root/run/netns/%s", s.node.pid, s.id))
}

// add calls the plugin, and tells when it had done its part and how long that took.
func (s *sandbox) add() (at time.Time, took time.Duration, err error) {
	began := time.Now()
	out, err := s.call("ADD")
	at = time.Now()
	if err != nil {
		return at, 0, err
	}
	var result struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(out, &result); err != nil || len(result.IPs) != 1 {
		return at, 0, fmt.Errorf("ADD of %s answered %s (%w)", s.id, out, err)
	}
	s.ip = result.IPs[0].Address.Addr()
	return at, at.Sub(began), nil
}

// remove is what a runtime does when a pod ends.
func (s *sandbox) remove() error {
	if _, err := s.call("DEL"); err != nil {
		return err
	}
	if out, err := s.node.command("ip", "netns", "delete", s.id).CombinedOutput(); err != nil {
		return fmt.Errorf("delete a sandbox: %w\n%s", err, out)
	}
	return nil
}

func (s *sandbox) call(command string) ([]byte, error) {
	cmd := s.node.command(s.plugin.path)
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + s.id, "CNI_NETNS=/run/netns/" + s.id, "CNI_IFNAME=eth0", "CNI_PATH=" + referencePlugins,
		fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_INFRA_CONTAINER_ID=%s;K8S_POD_UID=%s", s.namespace, s.name, s.id, s.uid),
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(s.plugin.config), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s of %s by %s: %w\n%s%s", command, s.id, s.plugin.path, err, &stdout, &stderr)
	}
	return stdout.Bytes(), nil
}
