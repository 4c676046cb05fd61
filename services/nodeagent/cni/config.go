package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/annotation"
)

const (
	// DefaultSocket is where the node agent listens unless told otherwise.
	DefaultSocket = "/run/damask/cni.sock"
	// DefaultTimeout bounds one command. It covers a namespace whose VNID must
	// be asked for; an ADD on a healthy node takes milliseconds.
	DefaultTimeout = 60 * time.Second

	longestTimeout = 600 // seconds; runtimes give up earlier
	validKey       = "cni.dev/valid-attachments"
	oldValidKey    = "cni.dev/attachments" // what libcni sent before the specification was corrected
)

// config is what the plugin needs of its network configuration.
type config struct {
	cniVersion    string
	socket        string
	timeout       time.Duration
	ips           []string // wished addresses: of the capability, else of args
	labels        map[string]string
	ports         []*cniv1.ContainerPort
	hostPorts     []*cniv1.HostPort
	bandwidth     *cniv1.Bandwidth
	annotations   map[string]string // those of egress routers
	hasPrevResult bool
	prevIPs       []string
	hasValid      bool
	valid         []*cniv1.AttachmentID
}

// problems collects everything that is wrong with a configuration.
type problems []string

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// err answers one error that names every problem, nil when there is none.
func (p problems) err(code uint) error {
	if len(p) == 0 {
		return nil
	}
	return types.NewError(code, strings.Join(p, "; "), "")
}

// parseConfig reads a network configuration. Fields that it does not know are
// tolerated, as CNI demands; those that it knows must be right. The error (code
// 7) names every problem.
func parseConfig(data []byte) (config, error) {
	c := config{socket: DefaultSocket, timeout: DefaultTimeout}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return config{}, types.NewError(types.ErrDecodingFailure, "network configuration is not a JSON object", err.Error())
	}
	var wrong problems
	read(fields, "cniVersion", &c.cniVersion, &wrong)
	read(fields, "socket", &c.socket, &wrong)
	if c.socket == "" || !filepath.IsAbs(c.socket) {
		wrong.addf("socket: %q is not an absolute path", c.socket)
	}
	seconds := int(DefaultTimeout / time.Second)
	read(fields, "timeout", &seconds, &wrong)
	if seconds < 1 || seconds > longestTimeout {
		wrong.addf("timeout: %d is not a number of seconds from 1 to %d", seconds, longestTimeout)
	}
	c.timeout = time.Duration(seconds) * time.Second
	c.readArgs(fields, &wrong)
	c.readRuntimeConfig(fields, &wrong)
	c.readPrevResult(fields, &wrong)
	c.readValid(fields, &wrong)
	return c, wrong.err(types.ErrInvalidNetworkConfig)
}

// read decodes one field, if it is there and not null.
func read(fields map[string]json.RawMessage, name string, into any, wrong *problems) bool {
	raw, ok := fields[name]
	if !ok || string(raw) == "null" {
		return false
	}
	if err := json.Unmarshal(raw, into); err != nil {
		wrong.addf("%s: %v", name, jsonReason(err))
		return false
	}
	return true
}

// jsonReason is the decoder's error without its own words for itself.
func jsonReason(err error) string {
	return strings.TrimPrefix(err.Error(), "json: ")
}

// readArgs reads the conventional args.cni: wished addresses, labels, and beside
// them ports as a pod's containers declare them in Kubernetes.
func (c *config) readArgs(fields map[string]json.RawMessage, wrong *problems) {
	var args struct {
		CNI struct {
			IPs    []string `json:"ips"`
			Labels []struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			} `json:"labels"`
			Ports []json.RawMessage `json:"ports"`
		} `json:"cni"`
	}
	if !read(fields, "args", &args, wrong) {
		return
	}
	c.ips = wishes("args.cni.ips", args.CNI.IPs, wrong)
	c.ports = readPorts(args.CNI.Ports, wrong)
	for i, l := range args.CNI.Labels {
		if l.Key == "" {
			wrong.addf("args.cni.labels[%d]: key is missing", i)
			continue
		}
		if _, twice := c.labels[l.Key]; twice {
			wrong.addf("args.cni.labels[%d]: key %q is given twice", i, l.Key)
			continue
		}
		if c.labels == nil {
			c.labels = map[string]string{}
		}
		c.labels[l.Key] = l.Value
	}
}

// readRuntimeConfig reads the capabilities: "portMappings", "bandwidth", the pod's annotations
// as containerd and CRI-O pass them on, and "ips", which wins over args: it is how a
// runtime speaks, args are how a person does.
func (c *config) readRuntimeConfig(fields map[string]json.RawMessage, wrong *problems) {
	var runtime struct {
		IPs          []string          `json:"ips"`
		PortMappings []portMapping     `json:"portMappings"`
		Bandwidth    *bandwidth        `json:"bandwidth"`
		Annotations  map[string]string `json:"io.kubernetes.cri.pod-annotations"`
	}
	if !read(fields, "runtimeConfig", &runtime, wrong) {
		return
	}
	if len(runtime.IPs) > 0 {
		c.ips = wishes("runtimeConfig.ips", runtime.IPs, wrong)
	}
	c.hostPorts = readHostPorts(runtime.PortMappings, wrong)
	if b := runtime.Bandwidth; b != nil && *b != (bandwidth{}) {
		c.bandwidth = &cniv1.Bandwidth{IngressRate: b.IngressRate, IngressBurst: b.IngressBurst, EgressRate: b.EgressRate, EgressBurst: b.EgressBurst}
	}
	c.annotations = annotation.Of(runtime.Annotations)
}

// wishes checks wished addresses; a prefix length is allowed and dropped.
func wishes(field string, given []string, wrong *problems) []string {
	if len(given) > 1 {
		wrong.addf("%s: %d addresses are wished: at most one can be given", field, len(given))
	}
	all := make([]string, 0, len(given))
	for i, text := range given {
		a, err := wishedAddress(text)
		if err != nil {
			wrong.addf("%s[%d]: %q is not an IP address", field, i, text)
			continue
		}
		all = append(all, a.String())
	}
	return all
}

func wishedAddress(text string) (netip.Addr, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		return p.Addr(), err
	}
	return netip.ParseAddr(text)
}

// readPrevResult takes the addresses of an earlier result. All versions of the
// specification that have CHECK write them alike.
func (c *config) readPrevResult(fields map[string]json.RawMessage, wrong *problems) {
	var prev struct {
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	}
	if !read(fields, "prevResult", &prev, wrong) {
		return
	}
	c.hasPrevResult = true
	for i, ip := range prev.IPs {
		if _, err := netip.ParsePrefix(ip.Address); err != nil {
			wrong.addf("prevResult.ips[%d].address: %q is not an address with prefix length", i, ip.Address)
			continue
		}
		c.prevIPs = append(c.prevIPs, ip.Address)
	}
}

// readValid reads what GC must keep. The field can be null: then nothing is.
func (c *config) readValid(fields map[string]json.RawMessage, wrong *problems) {
	key := validKey
	raw, ok := fields[key]
	if !ok {
		key = oldValidKey
		raw, ok = fields[key]
	}
	if !ok {
		return
	}
	var valid []types.GCAttachment
	if err := json.Unmarshal(raw, &valid); err != nil {
		wrong.addf("%s: %s", key, jsonReason(err))
		return
	}
	c.hasValid = true
	for i, v := range valid {
		if v.ContainerID == "" || v.IfName == "" {
			wrong.addf("%s[%d]: containerID and ifname are required", key, i)
			continue
		}
		c.valid = append(c.valid, &cniv1.AttachmentID{ContainerId: v.ContainerID, Ifname: v.IfName})
	}
}
