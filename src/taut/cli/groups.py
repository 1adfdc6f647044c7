"""Options in groups, as `--help` shows them."""

import click

_GROUPS = {
    "The log": "mapping map_value format engine lenient token_clip sums_only keep labels label_map "
    "reward_data reward_map behaviour",
    "What is asked": "target by by_table cuts weights mix gap pass_at all_of best_of parts "
    "reward_weights gold_part part_ranges of_value against beta tau tau_negative margin width "
    "require_lower require_best require_no_worse_than gold learned control unlabelled average most",
    "What you declare": "reward_range gold_range gold_scale gold_kind declare held_out prompts "
    "missing leader launched per_prompt one_policy whole_batches log_ratio_max "
    "log_ratio_second_moment coverage reward_mse log_prob_noise",
    "How it is bounded": "delta method side route calibration seed",
    "Money": "budget decode_cost prefill_cost label_cost pair_cost unit rm_curve pairs_at_hand "
    "most_rollouts step",
    "When to look": "state once final pause timeout idle",
    "Output": "output json_path html_path plot plot_path write_config quiet help",
}
_PLACE = {name: group for group, names in _GROUPS.items() for name in names.split()}
_MANY = 10  # options that are too many for one list


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups, where they are many."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group; what belongs to none stands at the end."""
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in (*_GROUPS, "Further")}
        records = [
            ("help" if parameter is self.get_help_option(ctx) else parameter.name, record)
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            and (record := parameter.get_help_record(ctx)) is not None
        ]
        if len(records) < _MANY:
            super().format_options(ctx, formatter)
            return
        for name, record in records:
            groups[_PLACE.get(name or "", "Further")].append(record)
        for title, rows in groups.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
