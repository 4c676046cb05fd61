package ancestor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The plugin makes the cable and asks the agent for the rest, as one request that waits
// for the one before it.

// socket is where the agent serves the plugin.
const socket = "/run/openshift-sdn/cniserver/socket"

// request is what the plugin asks for.
type request struct {
	Command, Sandbox, Namespace, HostVeth string
}

// answer is what it is told.
type answer struct {
	Address        netip.Prefix
	Gateway        netip.Addr
	ClusterNetwork netip.Prefix
	ServiceNetwork netip.Prefix
	MTU            int
	Userspace      bool
}

// serve answers the plugin until ctx ends.
func (n *node) serve(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return err
	}
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask request
		err := json.NewDecoder(r.Body).Decode(&ask)
		var told answer
		if err == nil {
			told, err = n.handle(r.Context(), ask)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(told)
	})}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handle attaches a pod. Requests come one at a time: the test sees to it.
func (n *node) handle(ctx context.Context, r request) (answer, error) {
	if r.Command != "ADD" {
		return answer{}, fmt.Errorf("this node knows no %s", r.Command)
	}
	vnid, known := n.VNIDs[r.Namespace]
	if !known {
		return answer{}, fmt.Errorf("failed to find netid for namespace %s", r.Namespace)
	}
	if !n.last.IsValid() {
		n.last = n.gateway()
	}
	n.last = n.last.Next()
	err := each(ctx, fmt.Sprintf("ovs-vsctl add-port br0 %[1]s -- set Interface %[1]s external_ids:sandbox=%[2]s external_ids:ip=%[3]s", r.HostVeth, r.Sandbox, n.last))
	if err != nil {
		return answer{}, err
	}
	number, err := command(ctx, "", "ovs-vsctl", "get", "Interface", r.HostVeth, "ofport")
	if err != nil {
		return answer{}, err
	}
	var port uint32
	if _, err := fmt.Sscan(number, &port); err != nil {
		return answer{}, fmt.Errorf("port %s of %s: %w", number, r.HostVeth, err)
	}
	return answer{
		Address: netip.PrefixFrom(n.last, n.Subnet.Bits()), Gateway: n.gateway(), ClusterNetwork: n.ClusterNetwork, ServiceNetwork: n.ServiceNetwork,
		MTU: n.MTU, Userspace: n.Userspace,
	}, n.bundle(ctx, n.ofPod(n.last, port, vnid))
}

// Plugin is OpenShift SDN's CNI plugin, called as a runtime calls it.
func Plugin() error {
	ctx := context.Background()
	args := map[string]string{}
	for word := range strings.SplitSeq(os.Getenv("CNI_ARGS"), ";") {
		key, value, _ := strings.Cut(word, "=")
		args[key] = value
	}
	sandbox, netns, ifname := os.Getenv("CNI_CONTAINERID"), filepath.Base(os.Getenv("CNI_NETNS")), os.Getenv("CNI_IFNAME")
	r := request{Command: os.Getenv("CNI_COMMAND"), Sandbox: sandbox, Namespace: args["K8S_POD_NAMESPACE"], HostVeth: "veth" + sandbox[:8]}
	if r.Command == "ADD" {
		if err := each(ctx, fmt.Sprintf("ip link add %s type veth peer name %s netns %s", r.HostVeth, ifname, netns)); err != nil {
			return err
		}
	}
	told, err := ask(ctx, r)
	if err != nil {
		return err
	}
	if err := told.configure(ctx, r.HostVeth, netns, ifname); err != nil {
		return err
	}
	mac := told.mac()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"cniVersion": "0.3.1",
		"interfaces": []any{map[string]any{"name": ifname, "mac": mac, "sandbox": os.Getenv("CNI_NETNS")}},
		"ips":        []any{map[string]any{"version": "4", "interface": 0, "address": told.Address.String()}},
		"dns":        map[string]any{},
	})
}

func (a answer) mac() string {
	b := a.Address.Addr().As4()
	return fmt.Sprintf("0a:58:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// configure gives the pod its address and routes, and brings the cable up.
func (a answer) configure(ctx context.Context, veth, netns, ifname string) error {
	if a.Userspace {
		if err := hide(ctx, veth); err != nil {
			return err
		}
		if err := each(ctx, "ip netns exec "+netns+" ethtool -K "+ifname+" tx off"); err != nil {
			return err
		}
	}
	in := "ip -n " + netns + " "
	return each(ctx,
		fmt.Sprintf("ip link set %s mtu %d up", veth, a.MTU),
		fmt.Sprintf("%slink set %s mtu %d address %s up", in, ifname, a.MTU, a.mac()),
		in+"link set lo up",
		fmt.Sprintf("%saddr add %s dev %s", in, a.Address, ifname),
		fmt.Sprintf("%sroute add default via %s dev %s", in, a.Gateway, ifname),
		fmt.Sprintf("%sroute add %s via %s dev %s", in, a.ServiceNetwork, a.Gateway, ifname),
		fmt.Sprintf("%sroute add %s dev %s scope link", in, a.ClusterNetwork, ifname),
		fmt.Sprintf("%sroute add 224.0.0.0/4 dev %s scope link", in, ifname),
	)
}

// ask asks the agent.
func ask(ctx context.Context, r request) (told answer, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return told, err
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://dummy/", bytes.NewReader(body))
	if err != nil {
		return told, err
	}
	response, err := client.Do(post)
	if err != nil {
		return told, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return told, fmt.Errorf("the agent: %s", text)
	}
	return told, json.NewDecoder(response.Body).Decode(&told)
}
