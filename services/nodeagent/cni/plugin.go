// Package cni is the CNI plugin damask-cni: it turns what a container runtime
// asks (CNI specification 1.1.0) into one call to the node agent, and the answer
// into a CNI result or a CNI error code.
//
// It promises to start fast, because a process start is on every pod's way up:
// it imports nothing that it can do without. It holds no state and touches no
// network; whatever can be retried, the runtime can simply ask again.
//
// It must not decide anything about addresses, ports or links.
package cni

import (
	"context"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// About is what the plugin says of itself when it is started by hand.
const About = "CNI plugin damask-cni: attaches pods to the Damask network. A container runtime starts it; see https://www.cni.dev"

// Versions are the versions of the CNI specification that the plugin speaks.
// CHECK needs 0.4.0, GC and STATUS need 1.1.0.
func Versions() version.PluginInfo {
	return version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
}

// Functions are the plugin's commands.
func Functions() skel.CNIFuncs {
	return skel.CNIFuncs{Add: cmdAdd, Del: cmdDel, Check: cmdCheck, GC: cmdGC, Status: cmdStatus}
}

func cmdAdd(args *skel.CmdArgs) error {
	config, configErr := parseConfig(args.StdinData)
	env, envErr := parseArgs(args.Args)
	if err := firstError(configErr, envErr); err != nil {
		return err
	}
	request, err := addRequest(args, config, env)
	if err != nil {
		return err
	}
	var response *cniv1.AddResponse
	err = call(config, func(ctx context.Context, agent cniv1.CNIServiceService) (err error) {
		response, err = agent.Add(ctx, request)
		return err
	})
	if err != nil {
		return err
	}
	result, err := resultOf(response)
	if err != nil {
		return types.NewError(types.ErrInternal, "the node agent's answer is not understood", err.Error())
	}
	versioned, err := result.GetAsVersion(config.cniVersion)
	if err != nil {
		return types.NewError(types.ErrIncompatibleCNIVersion, "result cannot be given in version "+config.cniVersion, err.Error())
	}
	return versioned.PrintTo(os.Stdout)
}

func cmdDel(args *skel.CmdArgs) error {
	config, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	return call(config, func(ctx context.Context, agent cniv1.CNIServiceService) error {
		_, err := agent.Delete(ctx, &cniv1.DeleteRequest{
			ContainerId: args.ContainerID, Ifname: args.IfName, Netns: args.Netns,
		})
		return err
	})
}

func cmdCheck(args *skel.CmdArgs) error {
	config, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	if !config.hasPrevResult {
		return types.NewError(types.ErrInvalidNetworkConfig, "prevResult: is required for CHECK", "")
	}
	return call(config, func(ctx context.Context, agent cniv1.CNIServiceService) error {
		_, err := agent.Check(ctx, &cniv1.CheckRequest{
			ContainerId: args.ContainerID, Ifname: args.IfName, Netns: args.Netns, ExpectedIps: config.prevIPs,
		})
		return err
	})
}

func cmdGC(args *skel.CmdArgs) error {
	config, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	if !config.hasValid {
		// An absent list must not mean an empty one: that would detach every pod.
		return types.NewError(types.ErrInvalidNetworkConfig, validKey+": is required for GC", "")
	}
	return call(config, func(ctx context.Context, agent cniv1.CNIServiceService) error {
		_, err := agent.GarbageCollect(ctx, &cniv1.GarbageCollectRequest{ValidAttachments: config.valid})
		return err
	})
}

func cmdStatus(args *skel.CmdArgs) error {
	config, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	err = call(config, func(ctx context.Context, agent cniv1.CNIServiceService) error {
		_, err := agent.Status(ctx, &cniv1.StatusRequest{})
		return err
	})
	return asStatus(err)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
