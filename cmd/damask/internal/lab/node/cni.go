package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/process"
)

const (
	cniSocket = "/run/damask/cni.sock"
	// podInterface is the name of a pod's interface, as kubelet has it.
	podInterface = "eth0"
	// annotationsCapability is how containerd and CRI-O pass on a pod's annotations.
	annotationsCapability = "io.kubernetes.cri.pod-annotations"
	// networkConfig is what an administrator writes to /etc/cni/net.d.
	networkConfig = `{
  "cniVersion": "1.1.0",
  "name": "damask",
  "plugins": [
    {"type": "damask-cni", "socket": "` + cniSocket + `", "capabilities": {"ips": true, "portMappings": true, "` + annotationsCapability + `": true}}
  ]
}
`
)

// networkConfigs is where the node's runtime looks for configurations: it takes the
// first by name, as runtimes do.
func (n *Node) networkConfigs() string { return n.Machine.Disk("etc", "cni", "net.d") }

// plugins is where it looks for plugins that are not Damask's.
func (n *Node) plugins() string { return n.Machine.Disk("opt", "cni", "bin") }

// runtimeCache is where it keeps what plugins answered.
func (n *Node) runtimeCache() string { return n.Machine.Disk("cni") }

// Configure has the node's runtime use Damask from now on.
func (n *Node) Configure() error {
	return write(filepath.Join(n.networkConfigs(), "10-damask.conflist"), networkConfig)
}

// networkConfig reads the configuration that counts. One that is for a single plugin
// stands for a list of one.
func (n *Node) networkConfig() (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(n.networkConfigs(), []string{".conf", ".conflist"})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has none: the node is without an agent", n.networkConfigs())
	}
	slices.Sort(files)
	text, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	if filepath.Ext(files[0]) == ".conf" {
		if text, err = listOfOne(text); err != nil {
			return nil, fmt.Errorf("read %s: %w", files[0], err)
		}
	}
	return libcni.NetworkConfFromBytes(text)
}

// listOfOne makes a list of the configuration of a single plugin: libcni reads only lists
// now, and OpenShift SDN installed it so.
func listOfOne(plugin []byte) ([]byte, error) {
	var list struct {
		Version string            `json:"cniVersion"`
		Name    string            `json:"name"`
		Plugins []json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(plugin, &list); err != nil {
		return nil, err
	}
	list.Plugins = []json.RawMessage{plugin}
	return json.Marshal(list)
}

// Sandbox is a pod's network namespace and what the pod wishes for.
type Sandbox struct {
	// ID is the runtime's name for it.
	ID string
	// Netns is the path of its network namespace on the node.
	Netns string
	// Namespace and Name are the pod's.
	Namespace, Name string
	// UID is its Pod's in the API server; empty: unknown.
	UID string
	// IP is the wished address; empty: any.
	IP string
	// OFPort is the wished port; 0: any.
	OFPort uint32
	// Labels are the pod's.
	Labels map[string]string
	// Annotations are the pod's.
	Annotations map[string]string
	// Ports are what the pod's containers declare.
	Ports []ContainerPort
	// HostPorts are ports of the node that lead to the pod.
	HostPorts []HostPort
}

// HostPort is a port of a node that leads to a pod, as CNI's capability portMappings
// has it.
type HostPort struct {
	// HostPort and ContainerPort are 1 to 65535.
	HostPort      uint32 `json:"hostPort"`
	ContainerPort uint32 `json:"containerPort"`
	// Protocol is tcp, udp or sctp.
	Protocol string `json:"protocol"`
	// HostIP is the node's address that it is on; empty: all of them.
	HostIP string `json:"hostIP,omitempty"`
}

// ContainerPort is a port of a pod as the plugin wants it: Kubernetes' words.
type ContainerPort struct {
	// Name of the port; may be empty.
	Name string `json:"name,omitempty"`
	// ContainerPort is 1 to 65535.
	ContainerPort uint32 `json:"containerPort"`
	// Protocol is TCP, UDP or SCTP; empty: TCP.
	Protocol string `json:"protocol,omitempty"`
}

// Attached is what an ADD answered.
type Attached struct {
	// IPs are the pod's addresses, without prefix length.
	IPs []string
	// MAC is that of the pod's interface.
	MAC string
}

// Add attaches a sandbox by the CNI plugin, as a container runtime does.
func (n *Node) Add(ctx context.Context, s Sandbox) (Attached, error) {
	cni, list, err := n.cni(s)
	if err != nil {
		return Attached{}, err
	}
	answer, err := cni.AddNetworkList(ctx, list, runtimeConfig(s))
	if err != nil {
		return Attached{}, err
	}
	result, err := current.NewResultFromResult(answer)
	if err != nil {
		return Attached{}, fmt.Errorf("read the plugin's answer: %w", err)
	}
	var attached Attached
	for _, ip := range result.IPs {
		attached.IPs = append(attached.IPs, ip.Address.IP.String())
	}
	for _, i := range result.Interfaces {
		if i.Sandbox != "" {
			attached.MAC = i.Mac
		}
	}
	return attached, nil
}

// Delete detaches a sandbox. What is detached already is a success.
func (n *Node) Delete(ctx context.Context, s Sandbox) error {
	cni, list, err := n.cni(s)
	if err != nil {
		return err
	}
	return cni.DelNetworkList(ctx, list, runtimeConfig(s))
}

// Collect detaches everything that the node has and that is not in one of the valid
// sandboxes.
func (n *Node) Collect(ctx context.Context, valid []string) error {
	cni, list, err := n.cni(Sandbox{})
	if err != nil {
		return err
	}
	keep := []types.GCAttachment{} // null would mean that nothing is said
	for _, id := range valid {
		keep = append(keep, types.GCAttachment{ContainerID: id, IfName: podInterface})
	}
	return cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: keep})
}

func runtimeConfig(s Sandbox) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: s.ID,
		NetNS:       s.Netns,
		IfName:      podInterface,
		Args:        [][2]string{{"K8S_POD_NAMESPACE", s.Namespace}, {"K8S_POD_NAME", s.Name}},
	}
	if s.UID != "" {
		rt.Args = append(rt.Args, [2]string{"K8S_POD_UID", s.UID})
	}
	if s.OFPort != 0 {
		rt.Args = append(rt.Args, [2]string{"DAMASK_OFPORT", strconv.FormatUint(uint64(s.OFPort), 10)})
	}
	rt.CapabilityArgs = map[string]any{}
	if s.IP != "" {
		rt.CapabilityArgs["ips"] = []string{s.IP}
	}
	if len(s.HostPorts) > 0 {
		rt.CapabilityArgs["portMappings"] = s.HostPorts
	}
	if len(s.Annotations) > 0 {
		rt.CapabilityArgs[annotationsCapability] = s.Annotations
	}
	return rt
}

// cni prepares the reference client with the configuration on the node's disk and
// the pod's labels and ports in it, by CNI's convention for args.
func (n *Node) cni(s Sandbox) (*libcni.CNIConfig, *libcni.NetworkConfigList, error) {
	list, err := n.networkConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("read network configuration: %w", err)
	}
	if args := conventional(s); len(args) > 0 {
		for i, plugin := range list.Plugins {
			if list.Plugins[i], err = libcni.InjectConf(plugin, map[string]any{"args": map[string]any{"cni": args}}); err != nil {
				return nil, nil, fmt.Errorf("write labels and ports into the network configuration: %w", err)
			}
		}
	}
	ns, err := n.Machine.Namespaces()
	if err != nil {
		return nil, nil, err
	}
	runner := &pluginRunner{reaper: n.reaper, ns: ns}
	return libcni.NewCNIConfigWithCacheDir([]string{n.config.Binaries, n.plugins()}, n.runtimeCache(), runner), list, nil
}

// pluginRunner starts plugins on the node, for libcni.
type pluginRunner struct {
	version.PluginDecoder

	reaper *process.Reaper
	ns     enter.Namespaces
}

// ExecPlugin runs the plugin. A plugin says on its standard output why it failed.
func (r *pluginRunner) ExecPlugin(ctx context.Context, path string, input []byte, environ []string) ([]byte, error) {
	cmd := exec.Command(path)
	cmd.Env = environ
	output, err := r.reaper.Output(ctx, r.ns, cmd, input)
	if err == nil {
		return output, nil
	}
	var failure *process.Failure
	var said types.Error
	if errors.As(err, &failure) && len(bytes.TrimSpace(output)) > 0 && json.Unmarshal(output, &said) == nil && said.Msg != "" {
		return nil, &said
	}
	return nil, err
}

// FindInPath finds the plugin's program.
func (r *pluginRunner) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// conventional answers what args.cni says of a pod.
func conventional(s Sandbox) map[string]any {
	type label struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	args := map[string]any{}
	var labels []label
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		labels = append(labels, label{key, s.Labels[key]})
	}
	if len(labels) > 0 {
		args["labels"] = labels
	}
	if len(s.Ports) > 0 {
		args["ports"] = s.Ports
	}
	return args
}
