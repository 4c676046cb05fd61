package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completionTime bounds what the Tab key waits for.
const completionTime = 2 * time.Second

// complete answers shell completion by the names of objects, for at most limit
// arguments; a negative limit is for flags. Names that are given already are
// left out. Whatever goes wrong, there is just nothing to propose.
func (a *app) complete(limit int, names func(context.Context, *session) ([]string, error)) cobra.CompletionFunc {
	return func(command *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		if limit >= 0 && len(args) >= limit {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(contextOf(command), completionTime)
		defer cancel()
		s, err := a.open(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer s.close()
		all, err := names(ctx, s)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(all, func(name string) bool {
			return !strings.HasPrefix(name, begin) || limit >= 0 && slices.Contains(args, name)
		}), cobra.ShellCompDirectiveNoFileComp
	}
}

// contextOf answers a command's context, which is missing while cobra completes
// flags.
func contextOf(command *cobra.Command) context.Context {
	if ctx := command.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
