package lab

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

func (c *commands) podCommand() *cobra.Command {
	pod := &cobra.Command{Use: "pod", Short: "Add, delete and enter pods"}
	pod.AddCommand(c.podAddCommand(), c.podDeleteCommand(),
		c.execCommand("exec NAMESPACE/NAME", "Run a command in a pod", 1, 1, podPlace))
	return pod
}

// podPlace is inside a pod: its network, and its node for everything else.
func podPlace(lab *labv1.Lab, args []string) (enter.Namespaces, error) {
	namespace, name, err := podName(args[0])
	if err != nil {
		return enter.Namespaces{}, err
	}
	for _, p := range lab.GetPods() {
		if p.GetNamespace() != namespace || p.GetName() != name {
			continue
		}
		n, err := poweredNode(lab, p.GetNode())
		if err != nil {
			return enter.Namespaces{}, err
		}
		if !p.GetAttached() {
			return enter.Namespaces{}, fmt.Errorf("pod %s is not running: %s", args[0], p.GetError())
		}
		return enter.InNet(int(n.GetPid()), p.GetNetns()), nil
	}
	return enter.Namespaces{}, fmt.Errorf("lab %q has no pod %s", lab.GetName(), args[0])
}

func podName(text string) (namespace, name string, err error) {
	namespace, name, found := strings.Cut(text, "/")
	if !found || namespace == "" || name == "" {
		return "", "", fmt.Errorf("%q does not name a pod: NAMESPACE/NAME", text)
	}
	return namespace, name, nil
}

func (c *commands) podAddCommand() *cobra.Command {
	request := &labv1.AddPodRequest{}
	var labels, annotations, ports, hostPorts []string
	command := &cobra.Command{
		Use:   "add NAMESPACE/NAME --node NODE",
		Short: "Attach a pod; without Kubernetes its NetNamespace is created if there is none",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			command.SilenceUsage = true
			var err error
			if request.Namespace, request.Name, err = podName(args[0]); err != nil {
				return err
			}
			if request.Labels, err = parsePairs("labels", labels); err != nil {
				return err
			}
			if request.Annotations, err = parsePairs("annotations", annotations); err != nil {
				return err
			}
			if request.Ports, err = parsePorts(ports); err != nil {
				return err
			}
			if request.HostPorts, err = parseHostPorts(hostPorts); err != nil {
				return err
			}
			return c.call(command.Context(), func(ctx context.Context, client *client) error {
				answer, err := client.AddPod(ctx, request)
				if err != nil {
					return plain(err)
				}
				if answer.GetNamespaceCreated() {
					fmt.Fprintf(command.OutOrStdout(), "namespace %s created with VNID %d\n", request.GetNamespace(), answer.GetNetid())
				}
				p := answer.GetPod()
				fmt.Fprintf(command.OutOrStdout(), "pod %s/%s added on %s with %s\n", p.GetNamespace(), p.GetName(), p.GetNode(), strings.Join(p.GetIps(), ", "))
				return nil
			})
		},
	}
	flags := command.Flags()
	flags.StringVar(&request.Node, "node", "", "the node that it runs on (required)")
	flags.StringVar(&request.Uid, "uid", "", "the UID of its Pod, where the lab follows a Kubernetes API server")
	flags.StringVar(&request.Ip, "ip", "", "the address that it shall have, one of its node's")
	flags.Uint32Var(&request.Ofport, "ofport", 0, "the OpenFlow port that it shall have, 3 to 65279")
	flags.StringArrayVar(&labels, "label", nil, "a label, KEY=VALUE; may be given several times")
	flags.StringArrayVar(&ports, "port", nil, "a port that its container declares, NAME=PORT[/PROTOCOL]; may be given several times")
	flags.StringArrayVar(&hostPorts, "host-port", nil, "a port of the node that leads to it, [ADDRESS:]HOSTPORT:PORT[/PROTOCOL]; may be given several times")
	flags.StringArrayVar(&annotations, "annotation", nil, "an annotation, KEY=VALUE; may be given several times")
	_ = command.MarkFlagRequired("node") // the flag was added above
	return command
}

func parsePairs(what string, given []string) (map[string]string, error) {
	pairs := map[string]string{}
	var wrong []string
	for _, text := range given {
		key, value, found := strings.Cut(text, "=")
		if _, twice := pairs[key]; !found || twice {
			wrong = append(wrong, text)
		}
		pairs[key] = value
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%s are KEY=VALUE, each key once: %s", what, strings.Join(wrong, ", "))
	}
	return pairs, nil
}

// parsePorts reads "http=8080", "dns=5353/UDP". Whether a name is one the plugin decides.
func parsePorts(given []string) ([]*labv1.ContainerPort, error) {
	var all []*labv1.ContainerPort
	var wrong []string
	for _, text := range given {
		name, rest, found := strings.Cut(text, "=")
		number, protocol, _ := strings.Cut(rest, "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if !found || err != nil || port == 0 {
			wrong = append(wrong, text)
			continue
		}
		all = append(all, &labv1.ContainerPort{Name: name, ContainerPort: uint32(port), Protocol: protocol})
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("ports are NAME=PORT[/PROTOCOL], ports from 1 to 65535: %s", strings.Join(wrong, ", "))
	}
	return all, nil
}

// parseHostPorts reads "8080:80", "192.0.2.1:53:5353/UDP". What the numbers may be the
// node decides.
func parseHostPorts(given []string) ([]*labv1.HostPort, error) {
	var all []*labv1.HostPort
	var wrong []string
	for _, text := range given {
		numbers, protocol, _ := strings.Cut(text, "/")
		parts := strings.Split(numbers, ":")
		port := &labv1.HostPort{Protocol: protocol}
		if len(parts) == 3 {
			port.HostIp, parts = parts[0], parts[1:]
		}
		if len(parts) != 2 {
			wrong = append(wrong, text)
			continue
		}
		host, err := strconv.ParseUint(parts[0], 10, 16)
		inside, err2 := strconv.ParseUint(parts[1], 10, 16)
		if err != nil || err2 != nil || host == 0 || inside == 0 {
			wrong = append(wrong, text)
			continue
		}
		port.HostPort, port.ContainerPort = uint32(host), uint32(inside)
		all = append(all, port)
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("host ports are [ADDRESS:]HOSTPORT:PORT[/PROTOCOL], ports from 1 to 65535: %s", strings.Join(wrong, ", "))
	}
	return all, nil
}

func (c *commands) podDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAMESPACE/NAME",
		Short: "End a pod's processes and detach it",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			command.SilenceUsage = true
			namespace, name, err := podName(args[0])
			if err != nil {
				return err
			}
			return c.call(command.Context(), func(ctx context.Context, client *client) error {
				if _, err := client.DeletePod(ctx, &labv1.DeletePodRequest{Namespace: namespace, Name: name}); err != nil {
					return plain(err)
				}
				fmt.Fprintf(command.OutOrStdout(), "pod %s deleted\n", args[0])
				return nil
			})
		},
	}
}

// call connects to the lab for one call.
func (c *commands) call(ctx context.Context, do func(context.Context, *client) error) error {
	client, err := connect(c.name)
	if err != nil {
		return err
	}
	defer client.close()
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errors.New("the lab took too long"))
	defer cancel()
	return do(ctx, client)
}
