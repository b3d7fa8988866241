"""A run directory that comes from somebody else, and nothing lost by our own commands; every test by way of a command.

| kind | test |
|---|---|
| **test_links** | |
| a link in place of a file or folder | a_link_is_not_followed |
| a hard link to a file that is changed in place | a_file_with_another_name_elsewhere_is_changed_here_alone |
| names in the plan that lead out | names_in_a_plan_are_checked, a_layers_name_is_no_path |
| names in records and in the list of outputs | names_in_other_files_are_passed_over |
| what a zip is made of | a_zip_holds_names_of_a_run_alone, what_lies_behind_a_link_is_not_taken_into_a_zip |
| what a picture in it is made of | arrays_behind_a_link_are_not_worked_in, pictures_behind_a_link_do_not_leave |
| **test_good_tiles** | |
| records gone, empty, torn, wrong; another plan | a_whole_tile_stays_whatever_happens_to_its_record |
| no records at all | a_run_whose_records_are_gone_is_told_so |
| something beside a tile is damaged | a_whole_tile_stays_whatever_happens_beside_it |
| no right to read | what_cannot_be_read_is_exit_74_and_nothing_goes, a_tile_that_cannot_be_read_stays |
| **test_fresh** | |
| foreign files | fresh_goes_on_beside_what_is_foreign, fresh_does_not_write_over_a_users_own_file |
| a run at work | fresh_waits_for_who_is_at_work |
| interrupted | fresh_can_be_typed_again |
| **test_damage** | |
| pipes, folders, devices, endless files | nothing_waits_for_a_pipe |
| plans, records | a_damaged_plan_is_one_line, a_damaged_record_is_as_none |
| pictures, arrays, events of absurd size | an_absurd_picture_is_one_line, absurd_vectors_are_one_line, ... |
| **test_directory** | |
| it vanishes, or is another one | a_directory_that_goes_during_work_ends_the_run |
| **test_sizes** | |
| configs that stand for too much | a_config_of_too_much_is_one_line, more_tiles_than_a_run_has_are_one_line |
| **test_words** | |
| terminal, tables, page | names_move_no_terminal, no_cell_is_a_formula, the_words_of_a_name_stay_words |
| **test_code** | |
| modules, paths that plan or config.yaml name | no_command_imports_or_opens_what_a_run_names, ..._must_be_typed |
| modules where the user stands | modules_where_the_user_stands_are_not_imported |
| a page, assets or sheets that are not our drawing | what_is_opened_..., what_is_exported_is_what_this_version_draws |
| links and paths in TensorBoard's log | tensorboard_is_not_started_on_links, ..._on_a_configuration_that_leads_out |
| **test_privacy** | |
| folders of the maker's machine | a_zip_names_no_folder_of_its_maker |

Starting images are in tests/unit/param/test_image.py, the viewer's address in tests/browser/test_tile.py; `python -m
tests.fuzz_run` does all kinds of damage by chance.
"""
